//! TLS and authentication as a web configuration file asks for them, seen by `curl`, by `openssl` and by a Prometheus that
//! scrapes through both. The files are of the kinds that the exporter-toolkit's own tests have.

use super::{
    host,
    support::{
        cases::{Cases, Outcome, Skip},
        command::{output, tool},
        exporter::{Tapster, binary, within},
        http,
        prometheus::Prometheus,
    },
};
use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// Longer than files are taken to be as they were seen.
const LOOK: Duration = Duration::from_millis(150);

/// A directory of certificates, and of a web configuration.
struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    /// An authority and a server's certificate by it, and two clients that sign themselves, all RSA as most are.
    fn new() -> Result<Self, Skip> {
        let directory = tempfile::tempdir().unwrap();
        let site = Self { directory };
        site.openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=authority -keyout ca.key -out ca.crt",
        )?;
        site.server("server", "localhost")?;
        for (name, names) in
            [("client", "DNS:one"), ("other", "DNS:test3,IP:127.0.0.9,email:a@b.c,URI:spiffe://d/e")]
        {
            site.openssl(&format!(
                "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN={name} -addext subjectAltName={names} -keyout {name}.key -out {name}.pem"
            ))?;
        }
        site.openssl("req -newkey rsa:2048 -nodes -subj /CN=signed -keyout signed.key -out signed.csr")?;
        // With an extension, or it would be of version 1, which no client's certificate may be here.
        site.write("client.ext", "extendedKeyUsage=clientAuth\n");
        site.openssl(
            "x509 -req -in signed.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile client.ext -out signed.pem",
        )?;
        Ok(site)
    }

    /// A server's certificate by the authority.
    fn server(&self, name: &str, common: &str) -> Result<(), Skip> {
        self.openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN={common} -keyout {name}.new -out {name}.csr"
        ))?;
        self.write("server.ext", "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile server.ext -out {name}.crt"
        ))?;
        fs::rename(self.path(&format!("{name}.new")), self.path(&format!("{name}.key"))).unwrap();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn openssl(&self, arguments: &str) -> Result<(), Skip> {
        let mut command = tool("openssl")?;
        command.args(arguments.split(' ')).current_dir(self.directory.path());
        let output = output(&mut command);
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// An exporter with this web configuration.
    fn serve(&self, text: &str, arguments: &[&str]) -> Tapster {
        self.write("web.yml", text);
        let path = self.path("web.yml").display().to_string();
        let mut all = vec!["--probes", "block_request", "--web.config.file", &path];
        all.extend(arguments);
        Tapster::start(&all)
    }

    /// A request by `curl`, with its arguments in one text; its status, 0 without an answer, and all that it printed.
    fn curl(&self, tapster: &Tapster, scheme: &str, arguments: &str) -> Result<(u16, String), Skip> {
        let mut command = tool("curl")?;
        command
            .args([
                "-sS",
                "-i",
                "--max-time",
                "20",
                "--cacert",
                "ca.crt",
                "-w",
                "\n%{http_version} %{http_code}",
            ])
            .args(arguments.split(' ').filter(|argument| !argument.is_empty()))
            .arg(format!("{scheme}://localhost:{}/metrics", tapster.address.port()))
            .arg("-4")
            .current_dir(self.directory.path());
        let output = output(&mut command);
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text.rsplit(' ').next().and_then(|code| code.parse().ok()).unwrap_or(0);
        write!(text, "\n{}", String::from_utf8_lossy(&output.stderr)).unwrap();
        Ok((status, text))
    }

    /// What `openssl s_client` says of a connection.
    fn connect(&self, tapster: &Tapster, arguments: &str) -> Result<String, Skip> {
        let mut command = tool("openssl")?;
        command
            .args(["s_client", "-connect", &tapster.address.to_string(), "-CAfile", "ca.crt"])
            .args(arguments.split(' ').filter(|argument| !argument.is_empty()))
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        let output = output(&mut command);
        Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }
}

/// A file with a certificate, and these lines below `tls_server_config`.
fn tls(lines: &str) -> String {
    let lines: String = lines.lines().flat_map(|line| ["  ", line, "\n"]).collect();
    format!("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n{lines}")
}

/// Files, and what clients get.
fn outcomes() -> Outcome {
    let site = Site::new()?;
    let verified = "client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: client.pem";
    let by_name = |name: &str| {
        format!(
            "client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: other.pem\nclient_allowed_sans: [bad, '{name}']"
        )
    };
    // The file; scheme and arguments of curl; the status, 0 for none.
    let mut requests: Vec<(String, &str, &str, u16)> = vec![
        (String::new(), "http", "", 200),
        (String::new(), "https", "", 0),
        (tls("client_auth_type: VerifyClientCertIfGiven"), "http", "", 400),
        (tls("client_auth_type: VerifyClientCertIfGiven"), "https", "", 200),
        // Signed by nobody whom the host trusts.
        (tls("client_auth_type: VerifyClientCertIfGiven"), "https", "--cert client.pem --key client.key", 0),
        (tls("client_auth_type: RequireAndVerifyClientCert"), "https", "", 0),
        (tls("client_auth_type: RequestClientCert"), "https", "", 200),
        (tls("client_auth_type: RequestClientCert"), "https", "--cert client.pem --key client.key", 200),
        (tls("client_auth_type: RequireAnyClientCert"), "https", "", 0),
        (tls("client_auth_type: RequireAnyClientCert"), "https", "--cert client.pem --key client.key", 200),
        (tls(verified), "https", "--cert client.pem --key client.key", 200),
        (tls(verified), "https", "--cert other.pem --key other.key", 0),
        (tls(verified), "https", "", 0),
        (
            tls("client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: ca.crt"),
            "https",
            "--cert signed.pem --key signed.key",
            200,
        ),
        (
            tls("client_auth_type: VerifyClientCertIfGiven\nclient_ca_file: ca.crt"),
            "https",
            "--cert client.pem --key client.key",
            0,
        ),
        (tls("client_auth_type: VerifyClientCertIfGiven\nclient_ca_file: ca.crt"), "https", "", 200),
        (tls(&by_name("none")), "https", "--cert other.pem --key other.key", 0),
    ];
    requests.push((tls(verified), "https", "--cert signed.pem --key signed.key", 0));
    for name in ["test3", "127.0.0.9", "a@b.c", "spiffe://d/e"] {
        requests.push((tls(&by_name(name)), "https", "--cert other.pem --key other.key", 200));
    }
    let mut made = 0;
    let mut running: Option<(String, Tapster)> = None;
    for (text, scheme, arguments, expected) in &requests {
        if running.as_ref().is_none_or(|(before, _)| before != text) {
            running = Some((text.clone(), site.serve(text, &[])));
        }
        let Some((_, tapster)) = &running else { continue };
        let (status, said) = site.curl(tapster, scheme, arguments)?;
        assert_eq!(status, *expected, "{text}\n{scheme} {arguments}\n{said}");
        made += 1;
    }
    Ok(format!("{made} requests end as they should"))
}

/// Versions, suites and curves that are agreed on.
fn what_is_agreed_on() -> Outcome {
    let site = Site::new()?;
    let some = "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]\nmax_version: TLS12";
    let others_order = "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\nmax_version: TLS12";
    let not_its_own = format!("{others_order}\nprefer_server_cipher_suites: false");
    let all = "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]";
    let both = "-cipher ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384 -tls1_2";
    let refused = "alert";
    let cases: Vec<(&str, &str, &str)> = vec![
        ("", "-tls1_3", "TLSv1.3, Cipher is TLS_AES_"),
        ("", "-tls1_2", "TLSv1.2, Cipher is ECDHE-RSA-AES"),
        ("", "-tls1_1 -cipher DEFAULT@SECLEVEL=0", refused),
        ("max_version: TLS12", "", "TLSv1.2, Cipher is"),
        ("min_version: TLS13", "-tls1_2", refused),
        (all, "-tls1_2 -cipher ECDHE-RSA-CHACHA20-POLY1305", "Cipher is ECDHE-RSA-CHACHA20-POLY1305"),
        (all, "-tls1_2 -cipher ECDHE-RSA-AES128-SHA", refused),
        (some, "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256", "Cipher is ECDHE-RSA-AES128-GCM-SHA256"),
        (some, "-tls1_2 -cipher ECDHE-RSA-CHACHA20-POLY1305", refused),
        (some, both, "Cipher is ECDHE-RSA-AES128-GCM-SHA256"),
        (others_order, both, "Cipher is ECDHE-RSA-AES256-GCM-SHA384"),
        (&not_its_own, both, "Cipher is ECDHE-RSA-AES128-GCM-SHA256"),
        (
            "curve_preferences: [CurveP256, CurveP384, CurveP521, X25519]",
            "-curves X25519",
            "Server Temp Key: X25519",
        ),
        ("curve_preferences: [CurveP384]", "-curves P-256:P-384", "Server Temp Key: ECDH, secp384r1"),
        ("curve_preferences: [CurveP384]", "-curves P-256", refused),
        ("", "-alpn h2,http/1.1", "ALPN protocol: h2"),
        ("", "-alpn http/1.1", "ALPN protocol: http/1.1"),
    ];
    let mut running: Option<(&str, Tapster)> = None;
    for (lines, arguments, expected) in &cases {
        if running.as_ref().is_none_or(|(before, _)| before != lines) {
            running = Some((lines, site.serve(&tls(lines), &[])));
        }
        let Some((_, tapster)) = &running else { continue };
        let said = site.connect(tapster, arguments)?;
        assert!(said.contains(expected), "{lines}\n{arguments}\nexpected {expected}\n{said}");
    }
    let without = tls("") + "http_server_config:\n  http2: false\n";
    let tapster = site.serve(&without, &[]);
    let said = site.connect(&tapster, "-alpn h2,http/1.1")?;
    assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    Ok(format!("{} connections agree on what they should, or on nothing", cases.len() + 1))
}

/// Users, headers, limits, by HTTP/1 and HTTP/2.
fn users_and_headers() -> Outcome {
    let site = Site::new()?;
    let hash = |password: &str| bcrypt::hash(password, 6).unwrap();
    let text = format!(
        "{}basic_auth_users:\n  alice: {}\n  bob: {}\nhttp_server_config:\n  headers:\n    X-Frame-Options: deny\n    \
         Strict-Transport-Security: max-age=31536000; includeSubDomains\n    X-XSS-Protection: 1\n",
        tls(""),
        hash("first"),
        hash("se:cond")
    );
    let tapster = site.serve(&text, &["--web.enable-lifecycle"]);
    for (arguments, expected) in [
        ("", 401),
        ("-u alice:first", 200),
        ("-u alice:first --http1.1", 200),
        ("-u bob:se:cond", 200),
        ("-u alice:second", 401),
        ("-u carol:first", 401),
        ("-u alice:", 401),
        ("-I", 401),
        ("-H authorization:Bearer", 401),
        ("-X POST", 401),
    ] {
        let (status, said) = site.curl(&tapster, "https", arguments)?;
        assert_eq!(status, expected, "{arguments}\n{said}");
        let head = said.to_ascii_lowercase();
        assert_eq!(head.contains("\nwww-authenticate: basic"), expected == 401, "{said}");
        for header in [
            "x-frame-options: deny",
            "strict-transport-security: max-age=31536000; includesubdomains",
            "x-xss-protection: 1",
        ] {
            assert!(head.contains(header), "{arguments} {header}\n{said}");
        }
    }
    let (_, said) = site.curl(&tapster, "https", "-u alice:first")?;
    let by_http2 = said.contains("\n2 200\n");
    // Every path is behind it.
    for path in ["", "-/healthy", "-/ready", "-/reload", "nothing", "metrics/../", "//metrics"] {
        let mut command = tool("curl")?;
        command
            .args(["-s", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", "ca.crt"])
            .arg(format!("https://localhost:{}/{path}", tapster.address.port()))
            .current_dir(site.directory.path());
        assert_eq!(String::from_utf8_lossy(&output(&mut command).stdout), "401", "{path}");
    }
    // Who is taken out of the file is out at once, whatever was remembered.
    site.write("web.yml", &text.replace("  alice:", "  anna:"));
    thread::sleep(LOOK);
    assert_eq!(site.curl(&tapster, "https", "-u alice:first")?.0, 401);
    assert_eq!(site.curl(&tapster, "https", "-u anna:first")?.0, 200);
    // An empty file, as there is one for a moment when it is written in place, lets nobody in.
    site.write("web.yml", "");
    thread::sleep(LOOK);
    assert_eq!(site.curl(&tapster, "https", "")?.0, 401);
    let (status, said) = site.curl(&tapster, "https", "-u anna:first")?;
    assert!(status == 200 && said.contains("\ntapster_web_config_last_reload_successful 0\n"), "{said}");
    assert!(tapster.log().iter().any(|line| line.contains("is empty")), "{:?}", tapster.log());
    Ok(format!(
        "401 and 200 as they should be, {}",
        if by_http2 { "by HTTP/2 too" } else { "this curl has no HTTP/2" }
    ))
}

fn limits() -> Outcome {
    let site = Site::new()?;
    let tapster = site.serve("rate_limit:\n  interval: 1h\n  burst: 3\n", &[]);
    let answers: Vec<u16> = (0..5).map(|_| tapster.get("/-/healthy").status).collect();
    assert_eq!(answers, [200, 200, 200, 429, 429]);
    let tapster = site.serve("rate_limit:\n  interval: 0\n", &[]);
    assert!((0..10).all(|_| tapster.get("/-/healthy").status == 200));
    Ok(format!("{answers:?}"))
}

/// A certificate that is replaced is the one of the next connection; one that does not fit is not.
fn another_certificate() -> Outcome {
    let site = Site::new()?;
    let tapster = site.serve(&tls(""), &[]);
    let subject = |site: &Site| -> Result<String, Skip> {
        let said = site.connect(&tapster, "")?;
        Ok(said.lines().find(|line| line.starts_with("subject=")).unwrap_or_default().to_owned())
    };
    assert_eq!(subject(&site)?, "subject=CN = localhost");
    site.server("server", "renewed")?;
    thread::sleep(LOOK);
    assert_eq!(subject(&site)?, "subject=CN = renewed");
    let key = fs::read(site.path("server.key")).unwrap();
    site.write("server.key", "none");
    thread::sleep(LOOK);
    assert_eq!(subject(&site)?, "subject=CN = renewed", "what held goes on");
    let said = || tapster.log().iter().any(|line| line.contains("holds no key in PEM"));
    assert!(within(Duration::from_secs(5), said).is_some(), "{:?}", tapster.log());
    fs::write(site.path("server.key"), key).unwrap();
    thread::sleep(LOOK);
    let (status, text) = site.curl(&tapster, "https", "")?;
    assert!(status == 200 && text.contains("\ntapster_web_config_last_reload_successful 1\n"), "{text}");
    Ok("renewed, broken and repaired while it serves".into())
}

/// A real Prometheus, with credentials and without.
fn prometheus() -> Outcome {
    let site = Site::new()?;
    let text = format!(
        "{}basic_auth_users:\n  prometheus: {}\n",
        tls("client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: ca.crt"),
        bcrypt::hash("scrapes", 6).unwrap()
    );
    let tapster = site.serve(&text, &[]);
    let path = |name: &str| site.path(name).display().to_string();
    let mut jobs = String::new();
    for (job, authority, certificate, password) in [
        ("right", true, true, Some("scrapes")),
        ("wrong_password", true, true, Some("scrape")),
        ("no_password", true, true, None),
        ("no_certificate", true, false, Some("scrapes")),
        ("not_trusted", false, true, Some("scrapes")),
    ] {
        write!(
            jobs,
            "  - job_name: {job}\n    scheme: https\n    static_configs: [{{targets: ['localhost:{}']}}]\n    tls_config:\n      \
             server_name: localhost\n",
            tapster.address.port()
        )
        .unwrap();
        if authority {
            writeln!(jobs, "      ca_file: {}", path("ca.crt")).unwrap();
        }
        if certificate {
            writeln!(jobs, "      cert_file: {}\n      key_file: {}", path("signed.pem"), path("signed.key"))
                .unwrap();
        }
        if let Some(password) = password {
            writeln!(jobs, "    basic_auth: {{username: prometheus, password: {password}}}").unwrap();
        }
    }
    let prometheus = Prometheus::start_jobs(&site.path("prometheus"), &jobs)?;
    prometheus.wait_value("up{job='right'}", 1.0);
    for job in ["wrong_password", "no_password", "no_certificate", "not_trusted"] {
        prometheus.wait_value(&format!("up{{job='{job}'}}"), 0.0);
    }
    prometheus.wait_value("tapster_probe_up{job='right',probe='block_request'}", 1.0);
    Ok("one of five jobs scrapes".into())
}

/// What is wrong at the start ends it with status 2 before anything is attached.
fn wrong_files() -> Outcome {
    let site = Site::new()?;
    let mut said = 0;
    for (text, expected) in [
        (tls("min_versio: TLS12"), "did you mean `min_version`?"),
        (tls("").replace("server.key", "signed.key"), "web.yml:3:13"),
        (tls("").replace("server.crt", "gone.crt"), "cannot read"),
        ("basic_auth_users:\n  john: hunter2\n".into(), "no hash of bcrypt"),
    ] {
        site.write("web.yml", &text);
        let path = site.path("web.yml").display().to_string();
        let Err(ended) = Tapster::start_at("127.0.0.1:0", &["--web.config.file", &path]) else {
            panic!("it serves with\n{text}")
        };
        assert_eq!(ended.status.code(), Some(2), "{:?}", ended.log);
        let log = ended.log.join("\n");
        assert!(
            log.contains(expected) && !log.contains("probes attached") && !log.contains("hunter2"),
            "{log}"
        );
        said += 1;
    }
    Ok(format!("{said} files are refused with status 2"))
}

/// Several addresses, another path, sockets that are handed over.
fn addresses() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let second: SocketAddr = ([127, 0, 0, 1], super::support::prometheus::free_port()).into();
    let tapster = Tapster::start(&["--probes", "block_request", "--web.listen-address", &second.to_string()]);
    for address in [tapster.address, second] {
        assert_eq!(http::get(address, "/metrics", None).unwrap().status, 200, "{address}");
    }
    let text = tapster.get("/metrics?probe=block_request").text().to_owned();
    assert!(
        text.contains("tapster_probe_up{probe=\"block_request\"") && !text.contains("process_"),
        "{text}"
    );
    let text = tapster.get("/metrics?exclude[]=block_request").text().to_owned();
    assert!(!text.contains("{probe=\"block_request\"") && text.contains("process_cpu"), "{text}");
    assert_eq!(tapster.get("/metrics?collect[]=block_requst").status, 400);
    drop(tapster);
    // As systemd does it: the socket is descriptor 3, and variables say so to this process.
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let script = "exec 3<&0; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" </dev/null";
    let log = directory.path().join("log");
    let mut child = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(binary().get_program())
        .args(["--probes", "block_request", "--web.systemd-socket", "--web.telemetry-path", "/own"])
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(socket)))
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let answers = || http::get(address, "/own", None).is_ok_and(|response| response.status == 200);
    let took = within(Duration::from_secs(30), answers);
    let there = http::get(address, "/metrics", None).map(|response| response.status);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(took.is_some(), "{}", fs::read_to_string(&log).unwrap());
    assert_eq!(there.unwrap(), 404);
    let ended = ended(&["--web.systemd-socket"]);
    assert!(ended.contains("cannot serve on the sockets of systemd: there are none"), "{ended}");
    let ended = self::ended(&["--web.telemetry-path", "metrics"]);
    assert!(ended.contains("expected a path such as `/metrics`"), "{ended}");
    Ok(format!("two addresses, and a socket that was handed over after {took:?}"))
}

/// What it says when it cannot start.
fn ended(arguments: &[&str]) -> String {
    let mut command = binary();
    command.arg("run").args(arguments);
    let output = output(&mut command);
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn tls_and_authentication() {
    let Some(mut cases) = Cases::as_root("web") else { return };
    let _host = host();
    cases.run("outcomes", outcomes);
    cases.run("versions, suites, curves", what_is_agreed_on);
    cases.run("users and headers", users_and_headers);
    cases.run("limits", limits);
    cases.run("another certificate", another_certificate);
    cases.run("prometheus", prometheus);
    cases.run("wrong files", wrong_files);
    cases.run("addresses", addresses);
    cases.finish();
}
