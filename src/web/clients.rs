//! Client certificates: whether one is requested or required, and which are accepted.

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use std::{net::IpAddr, sync::Arc};
use x509_cert::{
    Certificate,
    der::{
        Decode,
        oid::db::rfc5280::{ANY_EXTENDED_KEY_USAGE, ID_KP_CLIENT_AUTH},
    },
    ext::pkix::{ExtendedKeyUsage, SubjectAltName, name::GeneralName},
};

/// The policy for client certificates, the laxest first, by the names that Go's library has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Policy {
    /// `NoClientCert`: none is requested.
    None,
    /// `RequestClientCert`: one is requested, and any is accepted, or none.
    Request,
    /// `RequireAnyClientCert`: one is required, and any is accepted.
    RequireAny,
    /// `VerifyClientCertIfGiven`: one is requested, and must be signed by an authority if given.
    VerifyIfGiven,
    /// `RequireAndVerifyClientCert`: one is required, and must be signed by an authority.
    RequireAndVerify,
}

impl Policy {
    /// Names, the values of `client_auth_type`.
    pub(super) const NAMES: [(&'static str, Self); 6] = [
        ("NoClientCert", Self::None),
        ("RequestClientCert", Self::Request),
        ("RequireAnyClientCert", Self::RequireAny),
        ("VerifyClientCertIfGiven", Self::VerifyIfGiven),
        ("RequireAndVerifyClientCert", Self::RequireAndVerify),
        // The first name of this policy.
        ("RequireClientCert", Self::RequireAny),
    ];

    /// Whether authorities are needed.
    pub(super) fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

/// Verifies client certificates.
#[derive(Debug)]
pub(super) struct Clients {
    policy: Policy,
    /// Verifies chains; `None` if nothing is verified, or nothing can be because there is no authority.
    chains: Option<Arc<dyn ClientCertVerifier>>,
    /// Certificates that are accepted themselves, beside those that they signed.
    trusted: Vec<CertificateDer<'static>>,
    /// A certificate must have one of these names.
    names: Option<Vec<String>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Clients {
    /// A verifier with this policy. `authorities` sign certificates; without any, no certificate passes a policy that verifies.
    pub(super) fn new(
        policy: Policy,
        authorities: Vec<CertificateDer<'static>>,
        names: Option<Vec<String>>,
    ) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots.add(authority.clone()).map_err(|error| error.to_string())?;
        }
        let chains = if policy.verifies() && !roots.is_empty() {
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            Some(builder.build().map_err(|error| error.to_string())?)
        } else {
            None
        };
        Ok(Self { policy, chains, trusted: authorities, names, algorithms })
    }

    /// The requirements on clients: a greater value is stricter.
    pub(super) fn demands(&self) -> (Policy, bool) {
        (self.policy, self.names.is_some())
    }

    /// Whether a certificate is one of those that are accepted themselves, and has not expired.
    fn is_trusted(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        if !self.trusted.iter().any(|trusted| trusted.as_ref() == certificate.as_ref()) {
            return false;
        }
        let Ok(read) = Certificate::from_der(certificate) else { return false };
        let usages = read.tbs_certificate.get::<ExtendedKeyUsage>();
        let is_for_clients = match usages {
            Ok(None) => true,
            Ok(Some((_, ExtendedKeyUsage(usages)))) => {
                usages.contains(&ID_KP_CLIENT_AUTH) || usages.contains(&ANY_EXTENDED_KEY_USAGE)
            }
            Err(_) => false,
        };
        if !is_for_clients {
            return false;
        }
        let validity = read.tbs_certificate.validity;
        let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
        (seconds(validity.not_before)..=seconds(validity.not_after)).contains(&now.as_secs())
    }
}

/// The alternative names of a certificate, as texts: of hosts, addresses, e-mail and URIs.
fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, Error> {
    let wrong = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    let read = Certificate::from_der(certificate).map_err(wrong)?;
    let Some((_, SubjectAltName(names))) = read.tbs_certificate.get::<SubjectAltName>().map_err(wrong)?
    else {
        return Ok(Vec::new());
    };
    let text = |name: &GeneralName| match name {
        GeneralName::DnsName(name)
        | GeneralName::Rfc822Name(name)
        | GeneralName::UniformResourceIdentifier(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => match bytes.as_bytes() {
            bytes if bytes.len() == 4 => {
                <[u8; 4]>::try_from(bytes).ok().map(|bytes| IpAddr::from(bytes).to_string())
            }
            bytes => <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    };
    Ok(names.iter().filter_map(text).collect())
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.policy != Policy::None
    }

    fn client_auth_mandatory(&self) -> bool {
        // A required name requires a certificate.
        self.names.is_some() || matches!(self.policy, Policy::RequireAny | Policy::RequireAndVerify)
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.as_ref().map(|chains| chains.root_hint_subjects()).unwrap_or_default()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.policy.verifies() && !self.is_trusted(end_entity, now) {
            let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
            self.chains.as_ref().ok_or(unknown)?.verify_client_cert(end_entity, intermediates, now)?;
        }
        if let Some(allowed) = &self.names
            && !names(end_entity)?.iter().any(|name| allowed.contains(name))
        {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
