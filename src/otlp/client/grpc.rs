//! OTLP by gRPC: one unary call on a kept connection.

use super::{CountedBody, Endpoint, MAX_ANSWER, PushAnswer, Route, http::USER_AGENT, kept, said, why};
use hyper::{
    Response, StatusCode, Uri,
    body::Incoming,
    header::{self, HeaderMap, HeaderValue},
    http::uri::PathAndQuery,
};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::{
    Message,
    bytes::{Buf, BufMut, Bytes},
};
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tonic::{
    Code, Extensions, Request, Status,
    client::Grpc,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
};
use tonic_types::StatusExt;

/// The beginning of tonic's message about an answer that is too large.
const TOO_LARGE: &str = "decoded message length too large";
const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

type GrpcTransport = legacy::Client<HttpsConnector<Route>, CountedBody<tonic::body::Body>>;

#[derive(Debug)]
pub(super) struct GrpcClient {
    transport: GrpcTransport,
    origin: Uri,
    gzip: bool,
    sent: Arc<AtomicU64>,
}

impl GrpcClient {
    pub(super) fn new(
        connector: HttpsConnector<Route>,
        endpoint: &Endpoint,
        gzip: bool,
        sent: Arc<AtomicU64>,
    ) -> Self {
        Self { transport: kept(connector, true), origin: endpoint.uri().clone(), gzip, sent }
    }

    fn is_tls(&self) -> bool {
        self.origin.scheme_str() == Some("https")
    }

    pub(super) async fn send(&self, message: Bytes, headers: &HeaderMap, limit: Duration) -> PushAnswer {
        let mut headers = headers.clone();
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
        let mut request =
            Request::from_parts(MetadataMap::from_headers(headers), Extensions::default(), message);
        request.set_timeout(limit);
        let (transport, sent) = (self.transport.clone(), Arc::clone(&self.sent));
        let service = tower::service_fn(move |request: hyper::Request<tonic::body::Body>| {
            let answer = transport.request(request.map(|body| CountedBody { body, sent: Arc::clone(&sent) }));
            async { answer.await.map(of_grpc) }
        });
        let mut grpc = Grpc::with_origin(service, self.origin.clone())
            .max_decoding_message_size(MAX_ANSWER)
            .accept_compressed(CompressionEncoding::Gzip);
        if self.gzip {
            grpc = grpc.send_compressed(CompressionEncoding::Gzip);
        }
        if let Err(error) = grpc.ready().await {
            return PushAnswer::Again { message: why(&error, self.is_tls()), after: None };
        }
        match grpc.unary(request, PathAndQuery::from_static(EXPORT), EncodedCodec).await {
            Ok(response) => {
                let partial = response.into_inner().partial_success.unwrap_or_default();
                PushAnswer::Taken {
                    rejected: u64::try_from(partial.rejected_data_points).unwrap_or(0),
                    message: said(&partial.error_message),
                }
            }
            Err(status) => failure(&status, self.is_tls()),
        }
    }
}

/// Removes the body of an answer that is not gRPC, for example from a proxy. tonic derives its code from the HTTP status, as
/// gRPC defines it, but only if there is nothing else to read.
fn of_grpc(response: Response<Incoming>) -> Response<tonic::body::Body> {
    if response.status() == StatusCode::OK || response.headers().contains_key(Status::GRPC_STATUS) {
        response.map(tonic::body::Body::new)
    } else {
        response.map(|_| tonic::body::Body::empty())
    }
}

/// The specification of OTLP lists the codes that a client tries again; `RESOURCE_EXHAUSTED` only if it says when.
fn failure(status: &Status, is_tls: bool) -> PushAnswer {
    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let code = status.code();
    // There was no answer: tonic makes this of a connection that failed.
    if let (
        Some(cause),
        Code::Unknown | Code::Internal | Code::Unavailable | Code::Cancelled | Code::ResourceExhausted,
    ) = (std::error::Error::source(status), code)
    {
        let message = why(cause, is_tls);
        return PushAnswer::Again { message, after };
    }
    let text = said(status.message());
    let message = if text.is_empty() {
        format!("gRPC status {code:?}")
    } else {
        format!("gRPC status {code:?}: {text}")
    };
    match code {
        // An answer that is too large is tonic's to refuse, with the code of a receiver that wants it again.
        Code::OutOfRange if status.message().contains(TOO_LARGE) => PushAnswer::Refused { message },
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => PushAnswer::Again { message, after },
        Code::ResourceExhausted if after.is_some() => PushAnswer::Again { message, after },
        _ => PushAnswer::Refused { message },
    }
}

/// Messages that are encoded already, so that one that is sent again is not encoded again.
#[derive(Clone, Copy, Debug)]
struct EncodedCodec;

impl Codec for EncodedCodec {
    type Encode = Bytes;
    type Decode = ExportMetricsServiceResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for EncodedCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for EncodedCodec {
    type Item = ExportMetricsServiceResponse;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        // A receiver that answers in another form took it all the same.
        Ok(Some(ExportMetricsServiceResponse::decode(bytes).unwrap_or_default()))
    }
}
