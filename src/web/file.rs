//! The file: read into a tree, every key checked, and the files that it names read as well. All mistakes are collected, each with
//! its place; secrets are never shown.

use super::{
    WebSettings,
    clients::{Clients, Policy},
    rate::Rate,
    tls::{CURVES, HTTP2_SUITES, OLD_SUITES, SUITES, ServerTls, Version},
    users::{self, Users, Verified},
};
use crate::{config, mark::Mark, owner};
use axum::http::{HeaderName, HeaderValue};
use rustls::{
    NamedGroup, SupportedCipherSuite,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tapster_ebpf::{
    diagnostic::{Diagnostic, SourceFile, Span, nearest},
    yaml::{self, Data, Node},
};

const FILE: [&str; 4] = ["tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"];
const TLS: [&str; 13] = [
    "cert",
    "key",
    "client_ca",
    "cert_file",
    "key_file",
    "client_auth_type",
    "client_ca_file",
    "client_allowed_sans",
    "min_version",
    "max_version",
    "cipher_suites",
    "prefer_server_cipher_suites",
    "curve_preferences",
];
const HTTP: [&str; 2] = ["http2", "headers"];
const RATE: [&str; 2] = ["interval", "burst"];
/// Headers that may be set, and their values if only some are allowed.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

/// The result of reading a file.
pub(super) struct WebFileResult {
    /// `None` if something is wrong.
    pub(super) settings: Option<WebSettings>,
    /// Errors and warnings.
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Why the file itself cannot be read.
    pub(super) failure: Option<String>,
    /// Whether the file is empty.
    pub(super) is_empty: bool,
}

/// Reads the file at `path`, and returns marks of it and of the files that it names, taken before they were read.
pub(super) fn read(path: &Path, verified: &Arc<Verified>) -> (WebFileResult, Vec<Mark>) {
    let marks = vec![Mark::of(path)];
    let wrong = |diagnostic| WebFileResult {
        settings: None,
        diagnostics: vec![diagnostic],
        failure: None,
        is_empty: false,
    };
    let file = match config::read(path) {
        Ok(Ok(file)) => file,
        Ok(Err(diagnostic)) => return (wrong(diagnostic), marks),
        Err(error) => {
            let failure = Some(error.to_string());
            return (
                WebFileResult { settings: None, diagnostics: Vec::new(), failure, is_empty: false },
                marks,
            );
        }
    };
    let root = match yaml::parse(&file) {
        Ok(root) => root,
        Err(mut diagnostic) => {
            // The tree is unknown, and so is which texts are secret.
            diagnostic.file = SourceFile::new(file.name.clone(), yaml::keys_only(&file.text));
            diagnostic.message = without_words(&diagnostic.message);
            diagnostic.hint = None;
            return (wrong(diagnostic), marks);
        }
    };
    let mut shown = file.text.clone();
    for span in root.as_ref().map(secrets).unwrap_or_default() {
        yaml::veil(&mut shown, span);
    }
    let file = SourceFile::new(file.name.clone(), shown);
    let directory = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let mut reader = WebFileReader { file, directory, diagnostics: Vec::new(), marks };
    let settings = reader.settings(root.as_ref(), verified);
    let WebFileReader { diagnostics, marks, .. } = reader;
    let is_good = !diagnostics.iter().any(Diagnostic::is_error);
    (
        WebFileResult {
            settings: settings.filter(|_| is_good),
            diagnostics,
            failure: None,
            is_empty: root.is_none(),
        },
        marks,
    )
}

/// Texts that may be secret: all except known keys and the values of harmless ones. Otherwise a password that somebody forgot to
/// hash, or wrote in the wrong place, would be shown.
fn secrets(root: &Node) -> Vec<Span> {
    let Data::Mapping(entries) = &root.data else { return vec![root.span.clone()] };
    let mut spans = Vec::new();
    for (key, value) in entries {
        let (name, harmless): (&str, &[&str]) = match &key.data {
            Data::Scalar { text, .. } if text == "tls_server_config" => ("tls_server_config", &TLS),
            Data::Scalar { text, .. } if text == "http_server_config" => ("http_server_config", &HTTP),
            Data::Scalar { text, .. } if text == "rate_limit" => ("rate_limit", &RATE),
            Data::Scalar { text, .. } if text == "basic_auth_users" => ("basic_auth_users", &[]),
            _ => ("", &[]),
        };
        let Data::Mapping(inner) = &value.data else {
            spans.push(value.span.clone());
            continue;
        };
        for (key, value) in inner {
            let known = |text: &String| harmless.contains(&text.as_str()) && text != "key";
            match &key.data {
                Data::Scalar { text, .. } if known(text) => {}
                Data::Scalar { text, .. } if name != "basic_auth_users" || is_name(text) => {
                    spans.push(value.span.clone());
                }
                _ => spans.extend([key.span.clone(), value.span.clone()]),
            }
        }
    }
    spans
}

/// Whether a user's name is only a name, and not a name and a password without a blank between.
fn is_name(text: &str) -> bool {
    !text.contains(':')
}

/// A message without the words of the file.
fn without_words(message: &str) -> String {
    message.split('`').enumerate().map(|(index, part)| if index % 2 == 1 { "`…`" } else { part }).collect()
}

/// The tree of a file, and the mistakes found so far.
struct WebFileReader {
    /// The file with secrets hidden.
    file: Arc<SourceFile>,
    /// The directory that relative paths start from.
    directory: PathBuf,
    diagnostics: Vec<Diagnostic>,
    marks: Vec<Mark>,
}

/// Keys of a mapping and their values.
type WebFields<'n> = Vec<(&'static str, &'n Node)>;

fn field<'n>(fields: &WebFields<'n>, name: &str) -> Option<&'n Node> {
    fields.iter().find(|(key, _)| *key == name).map(|(_, node)| *node)
}

impl WebFileReader {
    fn error(&mut self, span: &Span, message: impl Into<String>, hint: impl Into<Option<String>>) {
        let mut diagnostic = Diagnostic::error(&self.file, span.clone(), message);
        diagnostic.hint = hint.into();
        self.diagnostics.push(diagnostic);
    }

    fn warn(&mut self, span: &Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::warning(&self.file, span.clone(), message));
    }

    /// The keys of a mapping, without those that have no value.
    fn fields<'n>(&mut self, node: Option<&'n Node>, what: &str, keys: &[&'static str]) -> WebFields<'n> {
        let Some(node) = node.filter(|node| !node.is_null()) else { return Vec::new() };
        let Data::Mapping(entries) = &node.data else {
            let message = format!("{what} must be a mapping, found {}", node.kind());
            self.error(&node.span, message, format!("keys are {}", keys.join(", ")));
            return Vec::new();
        };
        let mut fields = Vec::new();
        for (key, value) in entries {
            let Data::Scalar { text, .. } = &key.data else {
                self.error(&key.span, "a key must be a name", None);
                continue;
            };
            if let Some(known) = keys.iter().find(|known| *known == text) {
                if !value.is_null() {
                    fields.push((*known, value));
                }
                continue;
            }
            let hint = match nearest(text, keys.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("keys are {}", keys.join(", ")),
            };
            self.error(&key.span, format!("{what} has no key `{text}`"), hint);
        }
        fields
    }

    /// A text; an empty one counts as absent.
    fn text(&mut self, fields: &WebFields<'_>, name: &str) -> Option<(String, Span)> {
        let node = field(fields, name)?;
        if let Data::Scalar { text, .. } = &node.data {
            return (!text.is_empty()).then(|| (text.clone(), node.span.clone()));
        }
        self.error(&node.span, format!("`{name}` must be a text, found {}", node.kind()), None);
        None
    }

    fn boolean(&mut self, fields: &WebFields<'_>, name: &str, otherwise: bool) -> bool {
        match self.text(fields, name) {
            None => otherwise,
            Some((text, _)) if text == "true" => true,
            Some((text, _)) if text == "false" => false,
            Some((text, span)) => {
                self.error(&span, format!("`{name}` must be true or false, found `{text}`"), None);
                otherwise
            }
        }
    }

    /// The texts of a list, each with its place; `None` if there is no list.
    fn list(&mut self, fields: &WebFields<'_>, name: &str) -> Option<Vec<(String, Span)>> {
        let node = field(fields, name)?;
        let Data::Sequence(items) = &node.data else {
            let hint = "write each item behind `- `".to_owned();
            self.error(&node.span, format!("`{name}` must be a list, found {}", node.kind()), hint);
            return None;
        };
        let mut texts = Vec::new();
        for item in items {
            match &item.data {
                Data::Scalar { text, .. } => texts.push((text.clone(), item.span.clone())),
                _ => self.error(&item.span, format!("`{name}` holds texts, found {}", item.kind()), None),
            }
        }
        Some(texts)
    }

    /// Reads one of these words.
    fn word<T: Copy>(&mut self, name: &str, (text, span): &(String, Span), words: &[(&str, T)]) -> Option<T> {
        if let Some((_, value)) = words.iter().find(|(word, _)| word == text) {
            return Some(*value);
        }
        let hint = match nearest(text, words.iter().map(|(word, _)| *word)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                format!("it is one of {}", words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "))
            }
        };
        self.error(span, format!("`{name}` cannot be `{text}`"), hint);
        None
    }

    fn settings(&mut self, root: Option<&Node>, verified: &Arc<Verified>) -> Option<WebSettings> {
        let fields = self.fields(root, "the file", &FILE);
        let http = self.fields(field(&fields, "http_server_config"), "`http_server_config`", &HTTP);
        let http2 = self.boolean(&http, "http2", true);
        let headers = self.headers(field(&http, "headers"));
        let users = self.users(field(&fields, "basic_auth_users"));
        let rate = self.rate(field(&fields, "rate_limit"));
        let mut demands = (Policy::None, false);
        let tls = match field(&fields, "tls_server_config") {
            None => None,
            Some(node) => {
                let tls = self.tls(node, http2)?;
                // Do not report an error a second time in other words.
                if self.diagnostics.iter().any(Diagnostic::is_error) {
                    return None;
                }
                demands = tls.clients.demands();
                let config = tls.config();
                let refused = |error| {
                    self.error(&node.span, format!("TLS does not work with these settings: {error}"), None);
                };
                Some(config.map_err(refused).ok()?)
            }
        };
        Some(WebSettings { tls, demands, headers, users, rate, verified: verified.clone() })
    }

    fn headers(&mut self, node: Option<&Node>) -> Vec<(HeaderName, HeaderValue)> {
        let fields = self.fields(node, "`headers`", &HEADERS.map(|(name, _)| name));
        let mut headers = Vec::new();
        for (name, known) in HEADERS {
            let Some((text, span)) = self.text(&fields, name) else { continue };
            if !known.is_empty() && !known.contains(&text.as_str()) {
                let hint = format!("it is one of {}", known.join(", "));
                self.error(&span, format!("`{name}` cannot be `{text}`"), hint);
                continue;
            }
            match (HeaderName::try_from(name), HeaderValue::try_from(&text)) {
                (Ok(name), Ok(value)) => headers.push((name, value)),
                _ => self.error(&span, format!("`{name}` has a value that no header can have"), None),
            }
        }
        headers
    }

    fn users(&mut self, node: Option<&Node>) -> Users {
        let Some(node) = node.filter(|node| !node.is_null()) else { return Users::default() };
        let Data::Mapping(entries) = &node.data else {
            let message = format!("`basic_auth_users` must be a mapping of users, found {}", node.kind());
            self.error(&node.span, message, "write `NAME: HASH` for each user".to_owned());
            return Users::default();
        };
        let mut users = Vec::new();
        for (key, value) in entries {
            let (Data::Scalar { text: name, .. }, Data::Scalar { text: hash, .. }) = (&key.data, &value.data)
            else {
                self.error(&key.span, "a user is a name and a hash", None);
                continue;
            };
            match users::check(hash) {
                Ok(()) => users.push((name.clone(), hash.clone())),
                Err(why) => {
                    let hint =
                        "`htpasswd -nBC 10 \"\" | tr -d ':\\n'` asks for a password and prints its hash";
                    let whose = if is_name(name) { format!("`{name}`") } else { "this user".into() };
                    let message = format!("the password of {whose} is no hash of bcrypt: {why}");
                    self.error(&key.span, message, hint.to_owned());
                }
            }
        }
        Users::new(users)
    }

    fn rate(&mut self, node: Option<&Node>) -> Option<Rate> {
        let fields = self.fields(node, "`rate_limit`", &RATE);
        let interval = match self.text(&fields, "interval") {
            None => Duration::ZERO,
            Some((text, span)) => duration(&text).unwrap_or_else(|| {
                self.error(
                    &span,
                    format!("`{text}` is no time"),
                    "such as `1s`, `250ms` or `1m30s`".to_owned(),
                );
                Duration::ZERO
            }),
        };
        let burst = match self.text(&fields, "burst") {
            None => 0,
            Some((text, span)) => text.parse().unwrap_or_else(|_| {
                self.error(&span, format!("`burst` must be a whole number, found `{text}`"), None);
                0
            }),
        };
        (!interval.is_zero()).then(|| Rate::new(interval, burst, Instant::now()))
    }

    /// The bytes of a certificate or key: of the file that `name`_file names, or of the text of `name`.
    fn pem(&mut self, fields: &WebFields<'_>, name: &str) -> Option<(Vec<u8>, Span)> {
        if let Some((file, span)) = self.text(fields, &format!("{name}_file")) {
            // An absolute path stays as it is.
            let path = self.directory.join(file);
            self.marks.push(Mark::of(&path));
            if name == "key" && owner::is_open_to_all(&path) {
                self.warn(&span, owner::open_to_all(&path));
            }
            return match fs::read(&path) {
                Ok(bytes) => Some((bytes, span)),
                Err(error) => {
                    self.error(&span, format!("cannot read `{}`: {error}", path.display()), None);
                    None
                }
            };
        }
        self.text(fields, name).map(|(text, span)| (text.into_bytes(), span))
    }

    fn certificates(
        &mut self,
        fields: &WebFields<'_>,
        name: &str,
    ) -> Option<(Vec<CertificateDer<'static>>, Span)> {
        let (bytes, span) = self.pem(fields, name)?;
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match read {
            Ok(certificates) if !certificates.is_empty() => return Some((certificates, span)),
            Ok(_) => self.error(&span, format!("`{name}` holds no certificate in PEM"), None),
            Err(error) => self.error(&span, format!("`{name}` holds no certificate in PEM: {error}"), None),
        }
        None
    }

    fn tls(&mut self, node: &Node, http2: bool) -> Option<ServerTls> {
        let fields = self.fields(Some(node), "`tls_server_config`", &TLS);
        let place = node.span.start..node.span.start;
        let lacks = |reader: &mut Self, name: &str| {
            if reader.text(&fields, name).is_none() && reader.text(&fields, &format!("{name}_file")).is_none()
            {
                reader.error(&place, format!("`tls_server_config` needs `{name}_file` or `{name}`"), None);
            }
        };
        lacks(self, "cert");
        lacks(self, "key");
        let chain = self.certificates(&fields, "cert");
        let key =
            self.pem(&fields, "key").and_then(|(bytes, span)| match PrivateKeyDer::from_pem_slice(&bytes) {
                Ok(key) => Some((key, span)),
                Err(error) => {
                    self.error(&span, format!("`key` holds no key in PEM: {error}"), None);
                    None
                }
            });
        let versions = self.versions(&fields);
        let suites = self.suites(&fields, versions, http2);
        let curves = self.curves(&fields);
        let prefers_own = self.boolean(&fields, "prefer_server_cipher_suites", true);
        let clients = self.clients(&fields);
        let (chain, chain_span) = chain?;
        let (key, key_span) = key?;
        let signer = rustls::crypto::ring::sign::any_supported_type(&key);
        match signer.map(|signer| rustls::sign::CertifiedKey::new(chain.clone(), signer).keys_match()) {
            Ok(Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown))) => {}
            Ok(Err(rustls::Error::InconsistentKeys(_))) => {
                self.error(&key_span, "the key does not go with the certificate", None);
                return None;
            }
            Ok(Err(error)) => {
                self.error(&chain_span, format!("the certificate cannot be used: {error}"), None);
                return None;
            }
            Err(error) => {
                self.error(&key_span, format!("the key cannot be used: {error}"), None);
                return None;
            }
        }
        Some(ServerTls { chain, key, clients: clients?, versions, suites, prefers_own, curves, http2 })
    }

    fn versions(&mut self, fields: &WebFields<'_>) -> (Version, Version) {
        let mut version = |name, otherwise| match self.text(fields, name) {
            None => (otherwise, None),
            Some(given) => (self.word(name, &given, &Version::NAMES).unwrap_or(otherwise), Some(given.1)),
        };
        let (least, _) = version("min_version", Version::Tls12);
        let (most, place) = version("max_version", Version::Tls13);
        if let Some(span) = place
            && most < least.max(Version::Tls12)
        {
            let hint = "TLS 1.2 and 1.3 are spoken here".to_owned();
            self.error(&span, "`max_version` leaves no version of TLS that can be spoken", hint);
        }
        (least, most)
    }

    /// The chosen suites of TLS 1.2, in their order.
    fn suites(
        &mut self,
        fields: &WebFields<'_>,
        (least, most): (Version, Version),
        http2: bool,
    ) -> Vec<SupportedCipherSuite> {
        let Some(names) = self.list(fields, "cipher_suites").filter(|names| !names.is_empty()) else {
            return Vec::new();
        };
        let mut known: Vec<(&str, Option<SupportedCipherSuite>)> = SUITES.to_vec();
        known.extend(OLD_SUITES.map(|name| (name, None)));
        let mut suites = Vec::new();
        for given in &names {
            if OLD_SUITES.contains(&given.0.as_str()) {
                self.warn(
                    &given.1,
                    format!("`{}` is not spoken here, because it is no longer safe", given.0),
                );
            }
            suites.extend(self.word("cipher_suites", given, &known).flatten());
        }
        let span = field(fields, "cipher_suites").map(|node| node.span.clone()).unwrap_or_default();
        let is_for_http2 = |(name, _): &(String, Span)| HTTP2_SUITES.contains(&name.as_str());
        if http2 && least < Version::Tls13 && !names.iter().any(is_for_http2) {
            let message =
                format!("HTTP/2 needs {} or {} among `cipher_suites`", HTTP2_SUITES[0], HTTP2_SUITES[1]);
            let hint = "add it, or write `http2: false` below `http_server_config`".to_owned();
            self.error(&span, message, hint);
        } else if suites.is_empty() && most < Version::Tls13 {
            self.error(&span, "none of these `cipher_suites` can be used with TLS 1.2", None);
        }
        suites
    }

    fn curves(&mut self, fields: &WebFields<'_>) -> Vec<NamedGroup> {
        let Some(names) = self.list(fields, "curve_preferences").filter(|names| !names.is_empty()) else {
            return Vec::new();
        };
        let mut curves = Vec::new();
        for given in &names {
            match self.word("curve_preferences", given, &CURVES) {
                Some(Some(curve)) => curves.push(curve),
                Some(None) => self.warn(&given.1, format!("`{}` is not there here", given.0)),
                None => {}
            }
        }
        if curves.is_empty() {
            let span = field(fields, "curve_preferences").map(|node| node.span.clone()).unwrap_or_default();
            let hint = "X25519, CurveP256 and CurveP384 are there".to_owned();
            self.error(&span, "none of these curves is there", hint);
        }
        curves
    }

    fn clients(&mut self, fields: &WebFields<'_>) -> Option<Clients> {
        let policy = match self.text(fields, "client_auth_type") {
            None => Policy::None,
            Some(given) => self.word("client_auth_type", &given, &Policy::NAMES)?,
        };
        let names = self.list(fields, "client_allowed_sans");
        let is_text = |node: &&Node| !matches!(&node.data, Data::Scalar { text, .. } if text.is_empty());
        let given = |name| field(fields, name).filter(is_text);
        let is_given = given("client_ca_file").or(given("client_ca"));
        if let Some(node) = is_given.or(field(fields, "client_allowed_sans"))
            && policy == Policy::None
        {
            let hint = "with `client_auth_type: RequireAndVerifyClientCert` only clients of this authority are served";
            self.error(
                &node.span,
                "`client_auth_type` does not ask clients for certificates",
                hint.to_owned(),
            );
            return None;
        }
        let span = is_given.map(|node| node.span.clone()).unwrap_or_default();
        let authorities = match self.certificates(fields, "client_ca") {
            Some((authorities, _)) => authorities,
            None if is_given.is_some() => return None,
            // As in Go's library: those that the host trusts.
            None if policy.verifies() => rustls_native_certs::load_native_certs().certs,
            None => Vec::new(),
        };
        let names = names.map(|names| names.into_iter().map(|(name, _)| name).collect());
        match Clients::new(policy, authorities, names) {
            Ok(clients) => Some(clients),
            Err(error) => {
                self.error(&span, format!("`client_ca` cannot be used: {error}"), None);
                None
            }
        }
    }
}

/// A duration in the form of Go's library: numbers with units, one after the other, or a number of nanoseconds.
fn duration(text: &str) -> Option<Duration> {
    if let Ok(nanos) = text.parse::<u64>() {
        return Some(Duration::from_nanos(nanos));
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
        seconds += number
            * match &rest[..end] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}
