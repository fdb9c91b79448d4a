//! The route to the receiver: direct, or through the proxy that is set for all programs of the host.

use super::Endpoint;
use crate::otlp::setting::Proxy;
use hyper::Uri;
use hyper_util::{
    client::{
        legacy::connect::{HttpConnector, proxy::Tunnel},
        proxy::matcher::Matcher,
    },
    rt::TokioIo,
};
use std::{
    error::Error,
    future::Future,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::net::TcpStream;
use tower::Service;

/// Makes connections.
#[derive(Clone, Debug)]
pub(super) enum Route {
    Straight(HttpConnector),
    /// By `CONNECT`; TLS runs through the tunnel, with the receiver itself.
    Through(Tunnel<HttpConnector>),
}

impl Route {
    /// Uses the proxy for TLS endpoints that are not on this host and not excepted.
    pub(super) fn new(connector: HttpConnector, endpoint: &Endpoint, proxy: &Proxy) -> Self {
        let host = endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']']);
        let is_here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        let Some(url) = proxy.url.as_deref().filter(|_| endpoint.is_tls() && !is_here) else {
            return Self::Straight(connector);
        };
        let matcher = Matcher::builder().https(url).no(proxy.except.clone()).build();
        let Some(proxy) = matcher.intercept(endpoint.uri()) else { return Self::Straight(connector) };
        let tunnel = Tunnel::new(proxy.uri().clone(), connector);
        Self::Through(match proxy.basic_auth() {
            Some(auth) => tunnel.with_auth(auth.clone()),
            None => tunnel,
        })
    }
}

type BoxError = Box<dyn Error + Send + Sync>;

impl Service<Uri> for Route {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Straight(connector) => connector.poll_ready(context).map_err(Into::into),
            Self::Through(tunnel) => tunnel.poll_ready(context).map_err(Into::into),
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self {
            Self::Straight(connector) => {
                let connecting = connector.call(uri);
                Box::pin(async { connecting.await.map_err(Into::into) })
            }
            Self::Through(tunnel) => {
                let connecting = tunnel.call(uri);
                Box::pin(async {
                    connecting.await.map_err(|error| format!("the proxy of `HTTPS_PROXY`: {error}").into())
                })
            }
        }
    }
}
