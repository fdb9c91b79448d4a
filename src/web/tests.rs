//! What files give: every key, and what is wrong with others, with its place. Connections are made in `tests/web`.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs;
use tempfile::TempDir;

/// A hash of cost 4 of `secret`.
const HASH: &str = "$2b$04$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

/// A directory with a certificate, its key, another's key, and an authority.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, key).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &authority).unwrap();
    for (name, text) in [
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
        ("other.key", KeyPair::generate().unwrap().serialize_pem()),
        ("ca.crt", authority.as_ref().pem()),
        ("nothing", String::new()),
        ("text", "no certificate\n".into()),
    ] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn open(directory: &TempDir, text: &str) -> Result<Web, WebError> {
    let path = directory.path().join("web.yml");
    fs::write(&path, text).unwrap();
    Web::open(&path)
}

/// A file with a good certificate and these lines below `tls_server_config`.
fn tls(lines: &str) -> String {
    let lines: String = lines.lines().flat_map(|line| ["  ", line, "\n"]).collect();
    format!("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n{lines}")
}

#[test]
fn files_that_can_be_used() {
    let directory = directory();
    for (text, is_tls) in [
        (String::new(), false),
        ("tls_server_config:\nbasic_auth_users:\n".into(), false),
        (format!("basic_auth_users:\n  a: {HASH}\n"), false),
        ("rate_limit:\n  interval: 0\n  burst: 0\n".into(), false),
        ("rate_limit:\n  interval: 1m30s\n  burst: 10\n".into(), false),
        (tls(""), true),
        (tls("client_auth_type: NoClientCert"), true),
        (tls("client_auth_type: VerifyClientCertIfGiven"), true),
        (tls("client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: ca.crt"), true),
        // As in Go's library: the authorities of the host, of which there may be none.
        (tls("client_auth_type: RequireAndVerifyClientCert"), true),
        (tls("client_auth_type: RequireClientCert"), true),
        (tls("min_version: TLS13"), true),
        (tls("min_version: TLS10\nmax_version: TLS12"), true),
        (
            tls("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA]"),
            true,
        ),
        (tls("curve_preferences: [CurveP521, CurveP256]"), true),
        (
            tls("max_version: TLS12\ncipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]")
                + "http_server_config:\n  http2: false\n",
            true,
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    X-XSS-Protection: 1\n    \
             Content-Security-Policy: ''\n"
                .into(),
            false,
        ),
    ] {
        match open(&directory, &text) {
            Ok(web) => assert_eq!(web.is_tls(), is_tls, "{text}"),
            Err(error) => panic!("{text}\n{error}"),
        }
    }
}

#[test]
fn keys_and_certificates_in_the_file_itself() {
    let directory = directory();
    let inline = |name: &str| {
        let text = fs::read_to_string(directory.path().join(name)).unwrap();
        text.lines().flat_map(|line| ["    ", line, "\n"]).collect::<String>()
    };
    let text = format!(
        "tls_server_config:\n  cert: |\n{}  key: |\n{}  client_ca: |\n{}  client_auth_type: RequireAndVerifyClientCert\n",
        inline("server.crt"),
        inline("server.key"),
        inline("ca.crt")
    );
    assert!(open(&directory, &text).is_ok_and(|web| web.is_tls()));
    // A wrong key in the file is not shown.
    let text =
        format!("tls_server_config:\n  cert: |\n{}  key: |\n{}", inline("server.crt"), inline("other.key"));
    let error = open(&directory, &text).unwrap_err().to_string();
    assert!(error.contains("the key does not go with the certificate") && error.contains("*****"), "{error}");
    let secret = fs::read_to_string(directory.path().join("other.key")).unwrap();
    assert!(secret.lines().skip(1).all(|line| line.starts_with("-----") || !error.contains(line)), "{error}");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let directory = directory();
    for (text, expected) in [
        ("tls_server_confg:\n", "web.yml:1:1 did you mean `tls_server_config`?"),
        ("hWkNKCp3fvIx3jKnsaBI\n", "the file must be a mapping, found a scalar"),
        ("tls_server_config:\n  cert_filse: server.crt\n", "web.yml:2:3 did you mean `cert_file`?"),
        ("tls_server_config:\n  min_version: TLS12\n", "needs `cert_file` or `cert`"),
        ("tls_server_config:\n  cert_file: ''\n  key_file: server.key\n", "needs `cert_file` or `cert`"),
        ("tls_server_config:\n  cert_file: server.crt\n  key: ''\n", "needs `key_file` or `key`"),
        ("tls_server_config:\n  cert_file: gone\n  key_file: server.key\n", "web.yml:2:14 cannot read"),
        ("tls_server_config:\n  cert_file: server.crt\n  key_file: gone\n", "web.yml:3:13 cannot read"),
        (
            "tls_server_config:\n  cert_file: nothing\n  key_file: server.key\n",
            "web.yml:2:14 holds no certificate",
        ),
        (
            "tls_server_config:\n  cert_file: text\n  key_file: server.key\n",
            "web.yml:2:14 holds no certificate",
        ),
        (
            "tls_server_config:\n  cert_file: server.crt\n  key_file: text\n",
            "web.yml:3:13 holds no key in PEM",
        ),
        (
            "tls_server_config:\n  cert_file: server.crt\n  key_file: other.key\n",
            "web.yml:3:13 the key does not go with the certificate",
        ),
        (&tls("client_ca_file: ca.crt"), "web.yml:4:19 does not ask clients for certificates"),
        (&tls("client_allowed_sans: [a]"), "web.yml:4:24 does not ask clients for certificates"),
        (
            &tls("client_ca_file: gone\nclient_auth_type: RequireAndVerifyClientCert"),
            "web.yml:4:19 cannot read",
        ),
        (&tls("client_auth_type: RequireAndVerify"), "did you mean `RequireAndVerifyClientCert`?"),
        (&tls("min_version: TLS111"), "web.yml:4:16 `min_version` cannot be `TLS111`"),
        (&tls("max_version: TLS11"), "web.yml:4:16 leaves no version of TLS"),
        (&tls("min_version: TLS13\nmax_version: TLS12"), "web.yml:5:16 leaves no version of TLS"),
        (
            &tls("cipher_suites:\n- TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA2048"),
            "web.yml:5:5 `cipher_suites` cannot be `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA2048`",
        ),
        (
            &tls("max_version: TLS12\ncipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]"),
            "web.yml:5:18 HTTP/2 needs TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        ),
        (&tls("curve_preferences: [CurveP257]"), "web.yml:4:23 `curve_preferences` cannot be `CurveP257`"),
        (&tls("curve_preferences: [CurveP521]"), "none of these curves is there"),
        (&tls("prefer_server_cipher_suites: yes"), "must be true or false, found `yes`"),
        (&tls("cipher_suites: TLS_AES_128_GCM_SHA256"), "must be a list, found a scalar"),
        ("basic_auth_users:\n  john: doe\n", "web.yml:2:3 the password of `john` is no hash of bcrypt"),
        ("basic_auth_users: [john]\n", "must be a mapping of users"),
        ("http_server_config:\n  headers:\n    Content-Type: foo\n", "`headers` has no key `Content-Type`"),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: foo\n",
            "web.yml:3:22 `X-Frame-Options` cannot be `foo`",
        ),
        ("http_server_config:\n  headers:\n    X-Content-Type-Options: sniff\n", "it is one of nosniff"),
        ("http_server_config:\n  headers:\n    X-XSS-Protection: \"a\\nb\"\n", "that no header can have"),
        ("rate_limit:\n  interval: 1x\n  burst: 1\n", "web.yml:2:13 `1x` is no time"),
        ("rate_limit:\n  interval: 1s\n  burst: -1\n", "`burst` must be a whole number, found `-1`"),
        ("basic_auth_users: {a: \"unfinished\n", "web.yml:"),
    ] {
        let error = match open(&directory, text) {
            Ok(_) => panic!("this can be used:\n{text}"),
            Err(error) => error.to_string(),
        };
        assert!(error.starts_with("error: "), "{error}");
        // A place and words of what is said.
        let (place, words) = match expected.split_once(' ') {
            Some((place, words)) if place.starts_with("web.yml:") => (place, words),
            _ => ("", expected),
        };
        assert!(error.contains(place) && error.contains(words), "{text}\nexpected {expected}\n{error}");
    }
    let error = Web::open(&directory.path().join("missing.yml")).unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains("missing.yml"), "{error}");
}

#[test]
fn a_password_that_was_not_hashed_is_not_shown() {
    let directory = directory();
    for text in [
        "basic_auth_users:\n  john: hunter2\n",
        "basic_auth_users: {john: \"hunter2\n",
        "basic_auth_users:\n  - alice: hunter2\n",
        "basic_auth_users:\n  alice:hunter2\n",
        "basic_auth_users: {alice:hunter2}\n",
        "basic_auth_users: alice hunter2\n",
        "basic_auth_user: {alice: hunter2}\n",
        "tls_server_config: {cert_file: x, keys: hunter2}\n",
        "basic_auth_users: {alice: !hunter2 x}\n",
        "basic_auth_users:\n  alice: !hunter2 x\n",
    ] {
        let error = open(&directory, text).unwrap_err().to_string();
        assert!(!error.contains("hunter2") && error.starts_with("error: "), "{text}\n{error}");
    }
}

/// The files as they are now, after the time for which a look holds.
async fn settings(web: &Arc<Web>) -> Arc<WebSettings> {
    tokio::time::sleep(LOOK_EVERY + Duration::from_millis(20)).await;
    web.clone().current().await
}

#[tokio::test]
async fn files_that_change() {
    let directory = directory();
    let path = directory.path().join("web.yml");
    let users = |name: &str| tls("") + &format!("basic_auth_users:\n  {name}: {HASH}\n");
    let web = Arc::new(open(&directory, &users("a")).unwrap());
    let before = settings(&web).await;
    assert!(Arc::ptr_eq(&before, &settings(&web).await), "nothing is read again");
    fs::write(&path, users("b")).unwrap();
    let after = settings(&web).await;
    assert_eq!(format!("{:?}", after.users), "{\"b\"}");
    assert_eq!(web.problem(), None);
    for (text, expected) in [
        ("basic_auth_users: {b: x}\n".to_owned(), "no hash of bcrypt"),
        (String::new(), "is empty"),
        ("basic_auth_users:\n".into(), "turns TLS off, which was on at the start"),
        (tls("client_ca: x"), "does not ask clients"),
    ] {
        fs::write(&path, text).unwrap();
        assert!(Arc::ptr_eq(&after, &settings(&web).await), "what held before goes on");
        assert!(web.problem().is_some_and(|problem| problem.contains(expected)), "{:?}", web.problem());
        assert_eq!(web.families()[0].samples[0].value, crate::family::SampleValue::Number(0.0));
    }
    // Fewer demands count only when they stay.
    let strict = tls("client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: ca.crt");
    for (before, looser) in [(users("b"), tls("")), (strict, users("b"))] {
        fs::write(&path, &before).unwrap();
        let held = settings(&web).await;
        assert_eq!(web.problem(), None);
        fs::write(&path, &looser).unwrap();
        assert!(Arc::ptr_eq(&held, &settings(&web).await), "it may still be written: {looser}");
        tokio::time::sleep(SETTLED).await;
        assert!(!Arc::ptr_eq(&held, &settings(&web).await), "it was meant: {looser}");
    }
    fs::write(&path, users("c")).unwrap();
    assert_eq!(format!("{:?}", settings(&web).await.users), "{\"c\"}");
    assert_eq!(web.problem(), None);
    // A certificate that is replaced: first it does not go with the key.
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["x".into()]).unwrap().self_signed(&key).unwrap();
    let held = settings(&web).await;
    fs::write(directory.path().join("server.crt"), certificate.pem()).unwrap();
    assert!(Arc::ptr_eq(&held, &settings(&web).await));
    assert!(web.problem().is_some_and(|problem| problem.contains("does not go with")), "{:?}", web.problem());
    fs::write(directory.path().join("server.key"), key.serialize_pem()).unwrap();
    assert!(!Arc::ptr_eq(&held, &settings(&web).await));
    assert_eq!(web.problem(), None);
}
