//! A receiver of OTLP metrics that answers as a test says: by HTTP or by gRPC, with and without TLS.
//!
//! It keeps what it gets whatever it answers, so that a test sees what was sent again and what was not.

pub(crate) use super::answer::{Answer, Transport};
use super::{
    answer::{Reply, reply},
    authority::ServerTls,
};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Method, Request, Response,
    body::Incoming,
    header::{AsHeaderName, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, TE},
    http::request::Parts,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;
use std::{
    collections::VecDeque,
    io::{self, Read},
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket},
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// How long a test waits for requests before it gives up.
const PATIENCE: Duration = Duration::from_secs(30);
const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) transport: Transport,
    pub(crate) tls: Option<ServerTls>,
    /// Name and value of a header without which it answers 401 or `UNAUTHENTICATED`.
    pub(crate) demands: Option<(&'static str, &'static str)>,
    /// The path it takes instead of the usual one; others are 404 or `UNIMPLEMENTED`.
    pub(crate) path: Option<&'static str>,
}

impl Options {
    pub(crate) fn of(transport: Transport) -> Self {
        Self { transport, tls: None, demands: None, path: None }
    }
}

/// A request, kept when it was read whole and before it was answered.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) at: Instant,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Bytes of the body as it came: compressed if it was, and with the prefix of gRPC.
    pub(crate) wire_bytes: usize,
    pub(crate) request: ExportMetricsServiceRequest,
    /// From the script, unless the path or a demanded header was wrong.
    pub(crate) answer: Answer,
    /// Counts up from 1 with each accepted connection.
    pub(crate) connection: u64,
}

impl Received {
    /// The header's first value; the name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Answer>,
    always: Option<Answer>,
    received: Vec<Received>,
    connections: u64,
    /// The first request that is not OTLP: no test wants one, so whoever asks for requests panics with it.
    fault: Option<String>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// Keeps the request and gives what is to be answered.
    fn keep(
        &self,
        head: &Parts,
        wire_bytes: usize,
        decoded: Result<ExportMetricsServiceRequest, String>,
        connection: u64,
    ) -> Answer {
        let Options { transport, demands, path, .. } = self.options;
        let refusal = |code, grpc, message| match transport {
            Transport::Http => Answer::Status { code, retry_after: None, body: message },
            Transport::Grpc => Answer::Grpc { code: grpc, retry_delay: None, message },
        };
        let usual = if transport == Transport::Http { "/v1/metrics" } else { EXPORT };
        let is_path = head.uri.path() == path.unwrap_or(usual);
        let mut state = self.state.lock().unwrap();
        let request = match decoded {
            Ok(request) => request,
            Err(fault) => {
                state.fault.get_or_insert(format!("{fault}; {head:?}"));
                self.changed.notify_all();
                return refusal(400, 3, "not OTLP");
            }
        };
        let answer = if !is_path {
            refusal(404, 12, "no such path")
        } else if !demands.is_none_or(|(name, value)| is(&head.headers, name, value)) {
            refusal(401, 16, "a header is missing or wrong")
        } else {
            state.script.pop_front().or_else(|| state.always.clone()).unwrap_or(Answer::Take)
        };
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        state.received.push(Received {
            at: Instant::now(),
            path: head.uri.path().to_owned(),
            headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            wire_bytes,
            request,
            answer: answer.clone(),
            connection,
        });
        self.changed.notify_all();
        answer
    }
}

/// Whether to listen, and whom to tell when it is so.
type Order = (bool, std::sync::mpsc::Sender<()>);

#[derive(Debug)]
pub(crate) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// The thread ends when this is dropped.
    orders: Option<mpsc::UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub(crate) fn start(options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Bound and never listening, it keeps the port from others while the receiver is away.
        let reserve = bind("127.0.0.1:0".parse().unwrap());
        let address = reserve.local_addr().unwrap();
        let shared = Shared { options, state: Mutex::default(), changed: Condvar::new() };
        let shared = Arc::new(shared);
        let (orders, received_orders) = mpsc::unbounded_channel();
        let server = serve(address, shared.clone(), received_orders);
        let thread = std::thread::spawn(move || {
            runtime.block_on(server);
            drop(reserve);
        });
        let receiver = Self { address, shared, orders: Some(orders), thread: Some(thread) };
        receiver.come_back();
        receiver
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds to what it answers next, in order. Requests with a wrong path or without the demanded header use none.
    pub(crate) fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        let answers: Vec<_> = answers.into_iter().inspect(|answer| self.check(answer)).collect();
        self.shared.state.lock().unwrap().script.extend(answers);
    }

    /// Sets what it answers when the script is empty; without it, `Take`.
    pub(crate) fn always(&self, answer: Option<Answer>) {
        if let Some(answer) = &answer {
            self.check(answer);
        }
        self.shared.state.lock().unwrap().always = answer;
    }

    fn check(&self, answer: &Answer) {
        let is_grpc = matches!(answer, Answer::Grpc { .. });
        assert!(!is_grpc || self.shared.options.transport == Transport::Grpc, "{answer:?} by HTTP");
    }

    /// All requests so far, in order, whatever was answered.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.wait(0)
    }

    /// Those that are answered with success: by `Take`, `Partial` or `Slow`.
    pub(crate) fn taken(&self) -> Vec<Received> {
        let mut received = self.received();
        received.retain(|request| {
            matches!(request.answer, Answer::Take | Answer::Partial { .. } | Answer::Slow(_))
        });
        received
    }

    /// Waits until there are that many requests, whatever was answered; gives all.
    pub(crate) fn wait(&self, count: usize) -> Vec<Received> {
        let Shared { state, changed, .. } = &*self.shared;
        let is_short = |state: &mut State| state.received.len() < count && state.fault.is_none();
        let (state, _) = changed.wait_timeout_while(state.lock().unwrap(), PATIENCE, is_short).unwrap();
        let (received, fault) = (state.received.clone(), state.fault.clone());
        drop(state);
        if let Some(fault) = fault {
            panic!("the receiver got what is not OTLP: {fault}");
        }
        assert!(received.len() >= count, "{} of {count} requests after {PATIENCE:?}", received.len());
        received
    }

    /// Closes the listening socket and all connections; done when it returns.
    pub(crate) fn go_away(&self) {
        self.order(false);
    }

    /// Listens again, on the same port and without the connections of before; done when it returns.
    pub(crate) fn come_back(&self) {
        self.order(true);
    }

    fn order(&self, listens: bool) {
        let (done, wait) = std::sync::mpsc::channel();
        self.orders.as_ref().unwrap().send((listens, done)).expect("the receiver's thread runs");
        wait.recv().expect("the receiver's thread runs");
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.orders = None;
        // A panic of the thread has been reported by the thread.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<tokio::net::TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

async fn serve(address: SocketAddr, shared: Arc<Shared>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let tls = shared.options.tls.as_ref().map(|ServerTls(config)| {
        let mut config = config.clone();
        let protocol = if shared.options.transport == Transport::Grpc { "h2" } else { "http/1.1" };
        config.alpn_protocols = vec![protocol.into()];
        TlsAcceptor::from(Arc::new(config))
    });
    let mut listener = None;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((listens, done)) = order else { return };
                listener = None;
                connections.shutdown().await;
                if listens {
                    listener = Some(bind(address).listen(128).unwrap());
                }
                done.send(()).unwrap();
            }
            stream = accept(listener.as_ref()) => {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                let (shared, tls) = (shared.clone(), tls.clone());
                let number = {
                    let mut state = shared.state.lock().unwrap();
                    state.connections += 1;
                    state.connections
                };
                connections.spawn(async move {
                    match tls {
                        None => converse(stream, shared, number).await,
                        // A handshake that fails is the client's to report.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                converse(stream, shared, number).await;
                            }
                        }
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves a connection until it ends or an answer cuts it.
async fn converse<S>(stream: S, shared: Arc<Shared>, number: u64)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let cut = Arc::new(Notify::new());
    let (transport, stream) = (shared.options.transport, TokioIo::new(stream));
    let service = service_fn(|request| respond(shared.clone(), number, cut.clone(), request));
    let served = async {
        match transport {
            Transport::Http => http1::Builder::new().serve_connection(stream, service).await,
            Transport::Grpc => {
                http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
            }
        }
    };
    // How a connection ends is the client's to report.
    tokio::select! { _ = served => (), () = cut.notified() => () }
}

async fn respond(
    shared: Arc<Shared>,
    connection: u64,
    cut: Arc<Notify>,
    request: Request<Incoming>,
) -> io::Result<Response<Reply>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let transport = shared.options.transport;
    let decoded = match transport {
        _ if head.method != Method::POST => Err(format!("the method is {}", head.method)),
        Transport::Http => decode_http(&head.headers, &body),
        Transport::Grpc => decode_grpc(&head.headers, &body),
    };
    let answer = shared.keep(&head, body.len(), decoded, connection);
    Ok(reply(transport, answer, cut).await)
}

fn is(headers: &HeaderMap, name: impl AsHeaderName, value: &str) -> bool {
    headers.get(name).is_some_and(|found| found == value)
}

fn decode(bytes: &[u8], is_gzip: bool) -> Result<ExportMetricsServiceRequest, String> {
    let mut plain = Vec::new();
    if is_gzip {
        // Unlike the decoder of one member, this one finds what trails.
        MultiGzDecoder::new(bytes).read_to_end(&mut plain).map_err(|error| format!("not gzip: {error}"))?;
    }
    ExportMetricsServiceRequest::decode(if is_gzip { &plain } else { bytes })
        .map_err(|error| error.to_string())
}

fn decode_http(headers: &HeaderMap, body: &[u8]) -> Result<ExportMetricsServiceRequest, String> {
    if !is(headers, CONTENT_TYPE, "application/x-protobuf") {
        return Err("the content type is not protobuf".into());
    }
    match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => decode(body, false),
        Some(b"gzip") => decode(body, true),
        Some(_) => Err("an unknown encoding".into()),
    }
}

fn decode_grpc(headers: &HeaderMap, body: &[u8]) -> Result<ExportMetricsServiceRequest, String> {
    let is_grpc = ["application/grpc", "application/grpc+proto"].map(|kind| is(headers, CONTENT_TYPE, kind));
    if !is_grpc.contains(&true) || !is(headers, TE, "trailers") {
        return Err("the content type is not gRPC, or trailers are not accepted".into());
    }
    let (prefix, message) = body.split_first_chunk::<5>().ok_or("a message without a prefix")?;
    let [flag, length @ ..] = *prefix;
    if u32::from_be_bytes(length) as usize != message.len() {
        return Err(format!("not one message: {prefix:?} before {} bytes", message.len()));
    }
    match flag {
        0 => decode(message, false),
        1 if is(headers, "grpc-encoding", "gzip") => decode(message, true),
        _ => Err(format!("a message with the flag {flag}")),
    }
}
