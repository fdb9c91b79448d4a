//! TLS settings of a web configuration, by the names of Go's library: versions, cipher suites, curves.

use super::clients::Clients;
use rustls::{
    NamedGroup, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring, ring::cipher_suite},
    pki_types::{CertificateDer, PrivateKeyDer},
    version::{TLS12, TLS13},
};
use std::sync::Arc;

/// A version of TLS by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// No longer safe, and not supported.
    Tls10,
    /// No longer safe, and not supported.
    Tls11,
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

impl Version {
    /// Names, the values of `min_version` and `max_version`.
    pub(super) const NAMES: [(&'static str, Self); 4] =
        [("TLS10", Self::Tls10), ("TLS11", Self::Tls11), ("TLS12", Self::Tls12), ("TLS13", Self::Tls13)];
}

/// Cipher suites by their names. Those of TLS 1.3 cannot be chosen, so they are `None` here.
pub(super) const SUITES: [(&str, Option<SupportedCipherSuite>); 9] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Some(cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Some(cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Some(cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Some(cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384)),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    ("TLS_AES_128_GCM_SHA256", None),
    ("TLS_AES_256_GCM_SHA384", None),
    ("TLS_CHACHA20_POLY1305_SHA256", None),
];

/// Suites of Go's library that are not supported, because they are no longer considered safe.
pub(super) const OLD_SUITES: [&str; 4] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
];

/// Suites of which HTTP/2 needs one (RFC 7540, 9.2.2).
pub(super) const HTTP2_SUITES: [&str; 2] =
    ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"];

/// Curves by their names; `None` for one that Go's library has and rustls has not.
pub(super) const CURVES: [(&str, Option<NamedGroup>); 4] = [
    ("X25519", Some(NamedGroup::X25519)),
    ("CurveP256", Some(NamedGroup::secp256r1)),
    ("CurveP384", Some(NamedGroup::secp384r1)),
    ("CurveP521", None),
];

/// The TLS settings, all read and checked.
#[derive(Debug)]
pub(super) struct ServerTls {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) clients: Clients,
    pub(super) versions: (Version, Version),
    /// Suites of TLS 1.2, in the order of preference; empty for all.
    pub(super) suites: Vec<SupportedCipherSuite>,
    /// Whether the server's order counts, or the client's.
    pub(super) prefers_own: bool,
    /// Curves in the order of preference; empty for all.
    pub(super) curves: Vec<NamedGroup>,
    pub(super) http2: bool,
}

impl ServerTls {
    /// The server's TLS configuration; the error is about the certificate and its key.
    pub(super) fn config(self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut provider = ring::default_provider();
        if !self.suites.is_empty() {
            let new = provider.cipher_suites.iter().filter(|suite| suite.tls13().is_some()).copied();
            provider.cipher_suites = new.chain(self.suites).collect();
        }
        if !self.curves.is_empty() {
            let groups = self
                .curves
                .iter()
                .filter_map(|name| provider.kx_groups.iter().find(|group| group.name() == *name).copied());
            provider.kx_groups = groups.collect();
        }
        let (least, most) = self.versions;
        let is_wanted = |version: Version| least <= version && version <= most;
        let versions: Vec<&'static SupportedProtocolVersion> =
            [(Version::Tls12, &TLS12), (Version::Tls13, &TLS13)]
                .into_iter()
                .filter_map(|(version, supported)| is_wanted(version).then_some(supported))
                .collect();
        let provider: Arc<CryptoProvider> = Arc::new(provider);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)?
            .with_client_cert_verifier(Arc::new(self.clients))
            .with_single_cert(self.chain, self.key)?;
        config.ignore_client_order = self.prefers_own;
        config.alpn_protocols =
            if self.http2 { vec![b"h2".into(), b"http/1.1".into()] } else { vec![b"http/1.1".into()] };
        Ok(Arc::new(config))
    }
}
