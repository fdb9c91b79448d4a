//! A minimal HTTP client. It uses HTTP/1.0, so that an answer is complete when the peer closes.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the answer is text")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &'_ str| line.split_once(':').map(|(key, _)| key.eq_ignore_ascii_case(name));
        self.head
            .lines()
            .find(|text| line(text) == Some(true))?
            .split_once(':')
            .map(|(_, value)| value.trim())
    }
}

/// `GET path`, with an `Accept` header if one is given.
pub fn get(address: SocketAddr, path: &str, accept: Option<&str>) -> io::Result<Response> {
    let accept = accept.map(|accept| format!("Accept: {accept}\r\n")).unwrap_or_default();
    request(address, "GET", path, &accept)
}

/// Sends a request without a body; `headers` are complete lines.
pub fn request(address: SocketAddr, method: &str, path: &str, headers: &str) -> io::Result<Response> {
    request_within(Duration::from_secs(30), address, method, path, headers)
}

/// The same for an answer that may be long in coming.
pub fn request_within(
    patience: Duration,
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
) -> io::Result<Response> {
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n");
    exchange(patience, address, head.as_bytes())
}

/// `POST path` with a body.
pub fn post(address: SocketAddr, path: &str, body: &[u8]) -> io::Result<Response> {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n");
    exchange(Duration::from_secs(30), address, &[head.as_bytes(), body].concat())
}

fn exchange(patience: Duration, address: SocketAddr, request: &[u8]) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let wrong =
        || io::Error::new(io::ErrorKind::InvalidData, format!("not an answer: {} bytes", bytes.len()));
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(wrong)?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(wrong)?;
    let body = bytes[end + 4..].to_vec();
    let response = Response { status, head, body };
    match response.header("content-length").and_then(|length| length.parse::<usize>().ok()) {
        Some(length) if response.body.len() != length => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("{} bytes of {length}", response.body.len()),
        )),
        _ => Ok(response),
    }
}

/// Escapes a text for a query.
pub fn escape(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}
