//! One request to the receiver, and its answer. Connections are kept from one push to the next; names are looked up
//! and TLS is done outside of any lock. `retry` decides when a request is sent again.

mod endpoint;
mod grpc;
mod http;
mod proxy;
mod tls;

pub use endpoint::{Endpoint, WrongEndpoint};

use super::setting::{Protocol, PushSettings, SettingError};
use hyper::{
    body::{Body, Frame, SizeHint},
    header::{HeaderMap, HeaderName, HeaderValue},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::connect::HttpConnector,
    rt::{TokioExecutor, TokioTimer},
};
use prost::bytes::Bytes;
use proxy::Route;
use std::{
    error::Error,
    fmt::Write as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

/// Unused connections are closed after this: longer than the usual interval, so that one is kept.
const IDLE: Duration = Duration::from_mins(5);
/// A connection is given up if its other side acknowledges nothing for this time.
const GONE: Duration = Duration::from_secs(15);
/// Most bytes of an answer that are read, as the specification recommends.
const MAX_ANSWER: usize = 4 << 20;
/// A likely cause when a TLS connection ends.
const REFUSED: &str = " (a receiver does this when it asks for a client's certificate and gets none, or one that it does not trust)";
/// Longest message of a receiver that is shown.
const MAX_MESSAGE: usize = 300;

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushAnswer {
    /// The receiver accepted the request, with the exception of some points, and may say why.
    Taken {
        /// Points that it rejected.
        rejected: u64,
        /// Why, or a warning; may be empty.
        message: String,
    },
    /// Refused; the same request would be refused again.
    Refused {
        /// Why.
        message: String,
    },
    /// Not accepted; the same request may be accepted later.
    Again {
        /// Why.
        message: String,
        /// When to send it again, if the receiver says so.
        after: Option<Duration>,
    },
}

/// The connection to the receiver. Values of headers are marked as sensitive, so that nothing prints them.
#[derive(Debug)]
pub struct Client {
    settings: PushSettings,
    headers: HeaderMap,
    /// Times and sizes of the TLS files when they were read.
    files: tls::TlsFileMarks,
    transport: Transport,
    sent: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Transport {
    Http(http::HttpClient),
    Grpc(grpc::GrpcClient),
}

impl Client {
    /// Reads the TLS files. Does not connect to the receiver.
    pub fn new(settings: PushSettings) -> Result<Self, SettingError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            // Both were checked when they were read.
            let (Ok(name), Ok(mut value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) else {
                continue;
            };
            value.set_sensitive(true);
            headers.append(name, value);
        }
        let files = tls::TlsFileMarks::of(&settings.tls);
        let sent = Arc::default();
        let transport = Transport::new(&settings, &sent)?;
        Ok(Self { settings, headers, files, transport, sent })
    }

    /// Reads the TLS files again if they changed. If the new ones are wrong, the old ones stay in use.
    pub fn refresh(&mut self) -> Result<(), SettingError> {
        let now = tls::TlsFileMarks::of(&self.settings.tls);
        if now == self.files {
            return Ok(());
        }
        self.transport = Transport::new(&self.settings, &self.sent)?;
        self.files = now;
        tracing::info!("read the certificates for pushes again, because their files changed");
        Ok(())
    }

    /// The settings of this client.
    pub fn settings(&self) -> &PushSettings {
        &self.settings
    }

    /// Whether the caller must compress a message before it is sent; gRPC does that by itself.
    pub fn packs(&self) -> bool {
        self.settings.gzip && self.settings.protocol == Protocol::Http
    }

    /// Bytes of requests sent so far, without headers.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends a message, compressed if necessary, within the time for one request.
    pub async fn send(&self, message: Bytes) -> PushAnswer {
        let limit = self.settings.timeout;
        let answer = match &self.transport {
            Transport::Http(client) => client.send(message, &self.headers, limit).await,
            Transport::Grpc(client) => {
                tokio::time::timeout(limit, client.send(message, &self.headers, limit)).await.ok()
            }
        };
        answer.unwrap_or_else(|| PushAnswer::Again {
            message: format!("there was no answer within {limit:?}"),
            after: None,
        })
    }
}

impl Transport {
    fn new(settings: &PushSettings, sent: &Arc<AtomicU64>) -> Result<Self, SettingError> {
        let endpoint = settings.endpoint.clone();
        let config = tls::config(&settings.tls, endpoint.is_tls())?;
        let route = Route::new(connector_of_tcp(), &endpoint, &settings.proxy);
        Ok(match settings.protocol {
            Protocol::Http => {
                let connector =
                    HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1();
                let connector = connector.wrap_connector(route);
                Self::Http(http::HttpClient::new(connector, endpoint, settings.gzip, Arc::clone(sent)))
            }
            Protocol::Grpc => {
                let connector =
                    HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http2();
                let connector = connector.wrap_connector(route);
                Self::Grpc(grpc::GrpcClient::new(connector, &endpoint, settings.gzip, Arc::clone(sent)))
            }
        })
    }
}

fn connector_of_tcp() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(Duration::from_mins(1)));
    // A receiver that vanished silently must not keep its connection for a quarter of an hour.
    connector.set_tcp_user_timeout(Some(GONE));
    connector
}

/// A client of either version of HTTP that keeps its connection.
fn kept<B>(
    connector: HttpsConnector<Route>,
    is_http2: bool,
) -> hyper_util::client::legacy::Client<HttpsConnector<Route>, B>
where
    B: Body + Send,
    B::Data: Send,
{
    hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(1)
        .http2_only(is_http2)
        .http2_keep_alive_interval(GONE)
        .http2_keep_alive_timeout(GONE)
        .build(connector)
}

/// Why there is no answer, in one line. Of the client's own error it uses only whether there was a connection.
fn why(error: &(dyn Error + 'static), is_tls: bool) -> String {
    let mut place = Some(error);
    while let Some(inner) = place {
        place = inner.source();
        if let Some(client) = inner.downcast_ref::<hyper_util::client::legacy::Error>() {
            let what = if client.is_connect() { "cannot connect" } else { "the connection failed" };
            let text = place.map_or_else(|| what.to_owned(), |cause| format!("{what}: {}", whole(cause)));
            // The alert of TLS 1.3 comes after the connection is made, and its reason may be lost on the way.
            let is_refusal = is_tls && !client.is_connect() && !text.contains("alert");
            return said(&text) + if is_refusal { REFUSED } else { "" };
        }
    }
    said(&whole(error))
}

/// An error with all its causes, in one line.
fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = inner.source();
    }
    text
}

/// A receiver's message, cut to a length that suits a line of a log.
fn said(message: &str) -> String {
    let line: String =
        message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE).collect();
    line.trim().to_owned()
}

/// A body whose bytes are counted as they are sent.
#[derive(Debug)]
struct CountedBody<B> {
    body: B,
    sent: Arc<AtomicU64>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for CountedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let counted = self.get_mut();
        let frame = Pin::new(&mut counted.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
            counted.sent.fetch_add(bytes, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
