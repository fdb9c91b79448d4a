//! The certificates by which this host trusts the receiver, and identifies itself to it.

use crate::{
    mark::Mark,
    otlp::setting::{SettingError, TlsFile, TlsFiles},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{fs, sync::Arc};

/// The state of the files when they were read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TlsFileMarks(Vec<Mark>);

impl TlsFileMarks {
    pub(super) fn of(tls: &TlsFiles) -> Self {
        let client = tls.client.iter().flat_map(|(certificate, key)| [certificate, key]);
        Self(tls.authorities.iter().chain(client).map(|file| Mark::of(&file.path)).collect())
    }
}

/// Reads the files. Loads the authorities of the host only if TLS `is_used` and none are given.
pub(super) fn config(tls: &TlsFiles, is_used: bool) -> Result<ClientConfig, SettingError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &tls.authorities {
        for certificate in certificates(file)? {
            let wrong = |error| {
                file.wrong(format!(
                    "`{}` has a certificate that cannot be used: {error}",
                    file.path.display()
                ))
            };
            roots.add(certificate).map_err(wrong)?;
        }
    } else if is_used {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::warn!(
                "this host trusts no certificate authority, so no receiver is trusted: name the receiver's with \
                 `--otlp.certificate`"
            );
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|error| unreachable!("ring has the cipher suites of TLS 1.2 and 1.3: {error}"))
        .with_root_certificates(roots);
    let Some((certificate, key)) = &tls.client else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(certificate)?;
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| key.wrong(format!("`{}` holds no key in PEM: {error}", key.path.display())))?;
    builder.with_client_auth_cert(chain, secret).map_err(|error| {
        key.wrong(format!("`{}` does not go with the certificate: {error}", key.path.display()))
    })
}

fn read(file: &TlsFile) -> Result<Vec<u8>, SettingError> {
    fs::read(&file.path)
        .map_err(|error| file.wrong(format!("cannot read `{}`: {error}", file.path.display())))
}

fn certificates(file: &TlsFile) -> Result<Vec<CertificateDer<'static>>, SettingError> {
    let bytes = read(file)?;
    let wrong =
        |why: String| file.wrong(format!("`{}` holds no certificate in PEM{why}", file.path.display()));
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(format!(": {error}")))?;
    if certificates.is_empty() { Err(wrong(String::new())) } else { Ok(certificates) }
}
