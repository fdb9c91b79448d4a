//! The listening socket: address forms of the Prometheus exporters, and error messages that say what to do.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, Socket, Type};

/// The default port: see `docs/adr/0031-port-and-words.md`.
pub const PORT: u16 = 18277;
/// Connections the kernel holds until they are accepted.
const BACKLOG: i32 = 128;

/// Why the exporter does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address has none of the known forms.
    #[error(
        "`{addr}` is not a listen address: expected `:{PORT}`, `0.0.0.0:{PORT}`, `[::]:{PORT}` or `localhost:{PORT}`"
    )]
    Address {
        /// As given.
        addr: String,
    },
    /// The host name has no address.
    #[error("the host of listen address `{addr}` cannot be resolved: {source}")]
    Resolve {
        /// As given.
        addr: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot listen on `{addr}`: {}", reason(.source))]
    Bind {
        /// As given.
        addr: String,
        /// The refusal.
        source: io::Error,
    },
    /// The sockets that systemd passes cannot be served on.
    #[error("cannot serve on the sockets of systemd: {0}")]
    Inherited(String),
    /// The socket cannot be passed to the runtime.
    #[error("cannot serve: {0}")]
    Serve(#[source] io::Error),
}

impl ServerError {
    /// Whether the user's input is wrong, on any host.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Address { .. })
    }
}

/// A socket that listens but is not served yet: connections wait.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    addr: SocketAddr,
}

impl Listener {
    /// The address on which it listens, with the real port if 0 was requested.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn into_tokio(self) -> Result<tokio::net::TcpListener, ServerError> {
        tokio::net::TcpListener::from_std(self.socket).map_err(ServerError::Serve)
    }
}

/// Listens on `addr`: `HOST:PORT`, or `:PORT` for all interfaces, IPv4 and IPv6.
pub fn bind(addr: &str) -> Result<Listener, ServerError> {
    let (host, port) = split(addr).ok_or_else(|| ServerError::Address { addr: addr.to_owned() })?;
    let candidates = if host.is_empty() {
        // The second is for a kernel without IPv6.
        vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
    } else {
        resolve(host, port).map_err(|source| ServerError::Resolve { addr: addr.to_owned(), source })?
    };
    let mut refusal = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in candidates {
        match listen(candidate) {
            Ok(listener) => return Ok(listener),
            // A port in use on the first address must be reported, and is no reason to take another address.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(ServerError::Bind { addr: addr.to_owned(), source: error });
            }
            Err(error) => refusal = error,
        }
    }
    Err(ServerError::Bind { addr: addr.to_owned(), source: refusal })
}

/// The sockets that systemd passes to this process. Clears their variables for processes that are started from here.
pub fn inherited() -> Result<Vec<Listener>, ServerError> {
    let wrong = |message: String| ServerError::Inherited(message);
    let mut handed = ListenFd::from_env();
    if handed.len() == 0 {
        return Err(wrong(
            "there are none; start tapster by a socket unit, or without `--web.systemd-socket`".into(),
        ));
    }
    let mut listeners = Vec::new();
    for index in 0..handed.len() {
        let refused = |error: io::Error| wrong(format!("number {}: {error}", index + 1));
        let socket = handed.take_tcp_listener(index).map_err(refused)?;
        let socket = socket.ok_or_else(|| wrong(format!("number {} is gone", index + 1)))?;
        socket.set_nonblocking(true).map_err(refused)?;
        let addr = socket.local_addr().map_err(refused)?;
        listeners.push(Listener { socket, addr });
    }
    Ok(listeners)
}

/// Host, without the brackets of an IPv6 address, and port.
fn split(addr: &str) -> Option<(&str, u16)> {
    let (host, port) = addr.rsplit_once(':')?;
    // The number parser would take a sign as well.
    let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??;
    match host.strip_prefix('[') {
        Some(rest) => {
            let host = rest.strip_suffix(']')?;
            host.parse::<Ipv6Addr>().ok().map(|_| (host, port))
        }
        None if host.contains([':', '/', ']']) => None,
        None => Some((host, port)),
    }
}

fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut addrs: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    // `localhost` is 127.0.0.1 first, where people and scrape configurations look for it.
    addrs.sort_by_key(SocketAddr::is_ipv6);
    Ok(addrs)
}

fn listen(addr: SocketAddr) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.ip() == Ipv6Addr::UNSPECIFIED {
        // IPv4 as well, whatever the host's `net.ipv6.bindv6only` says.
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for connections of the last run to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    let socket = TcpListener::from(socket);
    let addr = socket.local_addr()?;
    Ok(Listener { socket, addr })
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use; stop the process that has it, or choose another with `--web.listen-address`"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "not permitted; ports below 1024 need the capability `CAP_NET_BIND_SERVICE`, or choose a higher one"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this host has this address; `:PORT` listens on all of them".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_the_forms_of_an_address() {
        for (addr, expected) in [
            (":18277", Some(("", 18277))),
            ("0.0.0.0:18277", Some(("0.0.0.0", 18277))),
            ("[::]:18277", Some(("::", 18277))),
            ("[fe80::1]:1", Some(("fe80::1", 1))),
            ("localhost:18277", Some(("localhost", 18277))),
            ("18277", None),
            ("localhost", None),
            ("localhost:", None),
            (":+1", None),
            (":65536", None),
            ("::1:18277", None),
            ("[::1:18277", None),
            ("[localhost]:18277", None),
            ("http://localhost:18277", None),
            ("", None),
        ] {
            assert_eq!(split(addr), expected, "{addr}");
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        let first = bind("127.0.0.1:0").unwrap();
        let addr = first.local_addr().to_string();
        assert_eq!(
            bind(&addr).unwrap_err().to_string(),
            format!(
                "cannot listen on `{addr}`: the port is in use; stop the process that has it, or choose another \
                 with `--web.listen-address`"
            )
        );
        // An address reserved for documentation.
        let message = bind("192.0.2.1:0").unwrap_err().to_string();
        assert!(message.ends_with("`:PORT` listens on all of them"), "{message}");
        let message = bind("18277").unwrap_err().to_string();
        assert!(message.starts_with("`18277` is not a listen address: expected `:18277`"), "{message}");
    }

    #[test]
    fn an_empty_host_is_every_interface() {
        let listener = bind(":0").unwrap();
        assert!(listener.local_addr().ip().is_unspecified());
        let port = listener.local_addr().port();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    }
}
