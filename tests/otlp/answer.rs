//! Answers of the receiver, right and wrong, as they go over the wire.

use hyper::{
    HeaderMap, Response, StatusCode,
    body::{Body, Bytes, Frame},
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
};
use prost::Message;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};
use tonic_types::{ErrorDetails, StatusExt};

/// What was written before a cut is on its way after this time.
const FLUSHED: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// HTTP/1.1 with protobuf.
    Http,
    /// gRPC: HTTP/2 by prior knowledge, or by ALPN under TLS.
    Grpc,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Take,
    Partial {
        rejected: i64,
        message: &'static str,
    },
    /// A status of HTTP. Under gRPC there is none of gRPC's with it, as when a proxy on the way answers.
    Status {
        code: u16,
        retry_after: Option<&'static str>,
        body: &'static str,
    },
    /// A status of gRPC, without a message (Trailers-Only). With a delay there is a `RetryInfo` in its details.
    Grpc {
        code: i32,
        retry_delay: Option<Duration>,
        message: &'static str,
    },
    /// Reads the request and never answers.
    Hang,
    /// Reads the request and closes the connection without a byte.
    CutBefore,
    /// Sends the head and a part of the promised body; then closes the connection, under gRPC resets the stream.
    CutWithin,
    /// Success, with a body that is no protobuf.
    Garbage,
    /// Success, with zeros that never end. Under gRPC they are empty messages where there should be one.
    Endless,
    /// Takes it after this time.
    Slow(Duration),
}

/// Frames of an answer, as they come; it ends when their sender is dropped.
#[derive(Debug)]
pub(crate) struct Reply(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context)
    }

    /// Lets the head of an answer without a body be its end, as Trailers-Only has to be.
    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}

/// What goes over the wire for an answer; `cut` closes the connection.
pub(crate) async fn reply(transport: Transport, answer: Answer, cut: Arc<Notify>) -> Response<Reply> {
    let is_grpc = transport == Transport::Grpc;
    let (frames, body) = mpsc::channel(2);
    let mut response = Response::new(Reply(body));
    let kind = if is_grpc { "application/grpc" } else { "application/x-protobuf" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // A success, with the frame around it that belongs to the transport.
    let mut succeed = |mut body: Vec<u8>| {
        if is_grpc {
            let length = u32::try_from(body.len()).unwrap().to_be_bytes();
            body.splice(0..0, [&[0], length.as_slice()].concat());
        } else {
            response.headers_mut().insert(CONTENT_LENGTH, body.len().into());
        }
        frames.try_send(Ok(Frame::data(body.into()))).unwrap();
        if is_grpc {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            frames.try_send(Ok(Frame::trailers(trailers))).unwrap();
        }
    };
    match answer {
        Answer::Take => succeed(ExportMetricsServiceResponse::default().encode_to_vec()),
        Answer::Slow(time) => {
            sleep(time).await;
            succeed(ExportMetricsServiceResponse::default().encode_to_vec());
        }
        Answer::Partial { rejected, message } => {
            let partial =
                ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message: message.into() };
            succeed(ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec());
        }
        Answer::Garbage => succeed(vec![0xff; 16]),
        Answer::Status { code, retry_after, body } => {
            *response.status_mut() = StatusCode::from_u16(code).unwrap();
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            headers.insert(CONTENT_LENGTH, body.len().into());
            headers.extend(retry_after.map(|time| (RETRY_AFTER, HeaderValue::from_static(time))));
            frames.try_send(Ok(Frame::data(body.into()))).unwrap();
        }
        Answer::Grpc { code, retry_delay, message } => {
            let details = ErrorDetails::with_retry_info(retry_delay);
            let status = match retry_delay {
                Some(_) => tonic::Status::with_error_details(code.into(), message, details),
                None => tonic::Status::new(code.into(), message),
            };
            status.add_header(response.headers_mut()).unwrap();
        }
        Answer::Hang => std::future::pending().await,
        Answer::CutBefore => {
            cut.notify_one();
            std::future::pending::<()>().await;
        }
        Answer::CutWithin => {
            // A prefix of gRPC that promises a hundred bytes, and ten of them; under HTTP no more than some bytes.
            let part = Bytes::from_static(b"\0\0\0\0\x64\0\0\0\0\0\0\0\0\0\0");
            frames.try_send(Ok(Frame::data(part))).unwrap();
            if !is_grpc {
                response.headers_mut().insert(CONTENT_LENGTH, 100.into());
            }
            tokio::spawn(async move {
                sleep(FLUSHED).await;
                if is_grpc {
                    let _ = frames.send(Err(io::ErrorKind::ConnectionReset.into())).await;
                } else {
                    cut.notify_one();
                }
            });
        }
        Answer::Endless => {
            tokio::spawn(async move {
                while frames.send(Ok(Frame::data(Bytes::from_static(&[0; 16384])))).await.is_ok() {
                    // Enough for any limit of bytes, and little enough for a machine that does other things.
                    sleep(Duration::from_millis(1)).await;
                }
            });
        }
    }
    response
}
