//! The receiver's address, by the rules of OTLP's specification for each protocol.

use crate::otlp::setting::Protocol;
use hyper::Uri;
use std::fmt;

/// Added to an endpoint that is for all signals.
const PATH: &str = "/v1/metrics";

/// The destination of requests.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Uri);

/// Why a text is no endpoint.
#[derive(Debug, PartialEq, Eq)]
pub struct WrongEndpoint {
    /// What is wrong.
    pub message: String,
    /// What to write.
    pub hint: String,
}

impl Endpoint {
    /// Reads an endpoint: the whole address of metrics if `is_whole`, else that of all signals, which over HTTP gets
    /// `/v1/metrics`. Over gRPC the scheme may be left out, and then `insecure` decides about TLS.
    pub fn parse(
        text: &str,
        protocol: Protocol,
        is_whole: bool,
        insecure: bool,
    ) -> Result<Self, WrongEndpoint> {
        let hint = match protocol {
            Protocol::Http => "an endpoint is a URL such as `http://collector:4318`",
            Protocol::Grpc => "an endpoint of gRPC is a URL such as `http://collector:4317`, without a path",
        };
        let wrong = |message: String| WrongEndpoint { message, hint: hint.into() };
        // This comes first, so that no message repeats a password.
        let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
        if after_scheme.split(['/', '?']).next().is_some_and(|authority| authority.contains('@')) {
            return Err(WrongEndpoint {
                message: "a URL with a user and a password is not taken".into(),
                hint: "give them as a header: `authorization=Basic%20…`".into(),
            });
        }
        // Messages leave out the query, which may contain a key.
        let shown = text.split('?').next().unwrap_or_default();
        let whole = match (text.split_once("://"), protocol) {
            (Some(_), _) => text.to_owned(),
            (None, Protocol::Grpc) => format!("{}://{text}", if insecure { "http" } else { "https" }),
            (None, Protocol::Http) => return Err(wrong(format!("`{shown}` has no `http://` or `https://`"))),
        };
        let uri: Uri = whole.parse().map_err(|error| wrong(format!("`{shown}` is no URL: {error}")))?;
        let scheme = uri.scheme_str().unwrap_or_default();
        if !matches!(scheme, "http" | "https") {
            let name = protocol.name();
            return Err(wrong(format!("{name} has no scheme `{scheme}`: it is `http` or `https`")));
        }
        let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
            return Err(wrong(format!("`{shown}` names no host")));
        };
        let after_host = authority.as_str().rsplit(']').next().unwrap_or_default();
        if let Some((_, port)) = after_host.rsplit_once(':')
            && authority.port_u16().is_none()
        {
            return Err(wrong(format!("`{port}` is no port")));
        }
        let path = uri.path().trim_end_matches('/');
        match protocol {
            Protocol::Grpc if !path.is_empty() || uri.query().is_some() => {
                Err(wrong(format!("`{shown}` has a path or a query, which gRPC has none of")))
            }
            Protocol::Http if !is_whole => {
                let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
                let whole = format!("{scheme}://{authority}{path}{PATH}{query}");
                whole.parse().map(Self).map_err(|error| wrong(format!("`{shown}` is no URL: {error}")))
            }
            Protocol::Grpc | Protocol::Http => Ok(Self(uri)),
        }
    }

    /// The default address of the specification, for a receiver on this host.
    pub fn local(protocol: Protocol) -> Self {
        Self(match protocol {
            Protocol::Http => Uri::from_static("http://localhost:4318/v1/metrics"),
            Protocol::Grpc => Uri::from_static("http://localhost:4317"),
        })
    }

    /// The address as a URI.
    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether connections use TLS.
    pub fn is_tls(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Endpoint {
    /// Leaves out the query, which may contain a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map(hyper::http::uri::Authority::as_str).unwrap_or_default();
        write!(
            f,
            "{}://{authority}{}",
            self.0.scheme_str().unwrap_or_default(),
            self.0.path().trim_end_matches('/')
        )
    }
}
