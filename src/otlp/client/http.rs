//! OTLP by HTTP: a POST with a body of protobuf.

use super::{CountedBody, Endpoint, MAX_ANSWER, PushAnswer, Route, kept, said, why};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap, HeaderValue},
};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::{Message, bytes::Bytes};
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

/// How long the body of an answer may take after its head.
const BODY: Duration = Duration::from_secs(2);
const PROTOBUF: &str = "application/x-protobuf";
pub(super) const USER_AGENT: &str = concat!("tapster/", env!("CARGO_PKG_VERSION"));

#[derive(Debug)]
pub(super) struct HttpClient {
    transport: legacy::Client<HttpsConnector<Route>, CountedBody<Full<Bytes>>>,
    endpoint: Endpoint,
    gzip: bool,
    sent: Arc<AtomicU64>,
}

impl HttpClient {
    pub(super) fn new(
        connector: HttpsConnector<Route>,
        endpoint: Endpoint,
        gzip: bool,
        sent: Arc<AtomicU64>,
    ) -> Self {
        Self { transport: kept(connector, false), endpoint, gzip, sent }
    }

    /// Sends a request. `None` if the head of an answer does not come within the limit.
    pub(super) async fn send(&self, body: Bytes, headers: &HeaderMap, limit: Duration) -> Option<PushAnswer> {
        let mut request = Request::new(CountedBody { body: Full::new(body), sent: Arc::clone(&self.sent) });
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.uri().clone();
        let own = request.headers_mut();
        own.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        own.extend(headers.clone());
        own.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
        if self.gzip {
            own.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Some(match tokio::time::timeout(limit, self.transport.request(request)).await.ok()? {
            Ok(response) => answer(response).await,
            Err(error) => PushAnswer::Again { message: why(&error, self.endpoint.is_tls()), after: None },
        })
    }
}

async fn answer(response: Response<Incoming>) -> PushAnswer {
    let (head, body) = response.into_parts();
    let status = head.status;
    let after = head.headers.get(header::RETRY_AFTER).and_then(|value| retry_after(value, SystemTime::now()));
    let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_protobuf = content_type.is_some_and(|kind| kind.starts_with(PROTOBUF));
    // The status decides, even if the body does not come, or has no end.
    let body = tokio::time::timeout(BODY, Limited::new(body, MAX_ANSWER).collect()).await;
    let body = body.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes);
    if status.is_success() {
        // A receiver that answers in another form has accepted the request all the same.
        let response = body.and_then(|body| ExportMetricsServiceResponse::decode(body).ok());
        let partial = response.and_then(|response| response.partial_success).unwrap_or_default();
        return PushAnswer::Taken {
            rejected: u64::try_from(partial.rejected_data_points).unwrap_or(0),
            message: said(&partial.error_message),
        };
    }
    let body = body.unwrap_or_default();
    let text = if is_protobuf { status_message(&body) } else { String::from_utf8_lossy(&body).into_owned() };
    let text = said(&text);
    let message = if text.is_empty() {
        format!("HTTP status {status}")
    } else {
        format!("HTTP status {status}: {text}")
    };
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => PushAnswer::Again { message, after },
        _ => PushAnswer::Refused { message },
    }
}

/// The message of a `google.rpc.Status`, which is the body of an error in protobuf.
fn status_message(body: &Bytes) -> String {
    tonic_types::pb::Status::decode(body.clone()).map(|status| status.message).unwrap_or_default()
}

/// Reads `Retry-After`: seconds, or a date.
fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 90);
        for (text, expected) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(90)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
        ] {
            let found = retry_after(&HeaderValue::from_static(text), now);
            assert_eq!(found, expected.map(Duration::from_secs), "{text}");
        }
    }
}
