//! Bodies of answers: in pieces, shared by all requests for the same metrics, and bounded in total.
//!
//! A body is written to memory before its first byte is sent. If it were sent during the collection, a client that does not read
//! would hold up the collection.

use super::seats::{RequestGuard, Seats};
use crate::{gzip, sys};
use axum::body::{Body, Bytes, HttpBody};
use flate2::write::GzEncoder;
use hyper::body::{Frame, SizeHint};
use std::{
    convert::Infallible,
    io::{self, Write},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::sync::Notify;

/// Size of a piece, bytes: a connection reads one piece at a time, which shows whether it reads at all.
const PIECE: usize = 16 << 10;
/// Limit of unread bytes of all bodies together. While there are more, nothing is collected.
const BUDGET: usize = 16 << 20;
/// How long a request waits until other clients have read their answers.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often the server looks for slow connections meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// From this size on, giving back the memory of a body is worth the time.
const LARGE: usize = 1 << 20;

/// The memory of all bodies.
#[derive(Debug, Default)]
pub(super) struct BodyMemory {
    bytes: AtomicUsize,
    /// The largest body so far.
    largest: AtomicUsize,
    freed: Notify,
    /// A large body was freed.
    large_gone: Notify,
}

impl BodyMemory {
    /// A host whose metrics are larger than the budget is served too, one client after the other.
    fn is_short(&self) -> bool {
        let budget = BUDGET.max(self.largest.load(Ordering::Relaxed).saturating_mul(2));
        self.bytes.load(Ordering::Relaxed) > budget
    }

    /// Waits until there is memory for one more answer, and closes connections that do not read theirs. Returns whether there is.
    pub(super) async fn has_room(&self, seats: &Seats) -> bool {
        let room = async {
            while self.is_short() {
                seats.close_slow();
                let _ = tokio::time::timeout(LOOK_EVERY, self.freed.notified()).await;
            }
        };
        tokio::time::timeout(PATIENCE, room).await.is_ok()
    }

    /// Gives memory back to the system whenever large bodies were freed.
    pub(super) async fn give_back(self: Arc<Self>) {
        loop {
            self.large_gone.notified().await;
            // Others are freed at about the same time.
            tokio::time::sleep(LOOK_EVERY).await;
            let _ = tokio::task::spawn_blocking(sys::release_memory).await;
        }
    }
}

/// A complete body.
#[derive(Debug)]
pub(super) struct EncodedBody {
    pieces: Vec<Bytes>,
    bytes: usize,
    memory: Arc<BodyMemory>,
}

impl EncodedBody {
    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// The body of one answer.
    pub(super) fn body(self: &Arc<Self>) -> Body {
        Body::new(BodyReader { encoded: self.clone(), next: 0, left: self.bytes })
    }

    #[cfg(test)]
    pub(super) fn to_vec(&self) -> Vec<u8> {
        self.pieces.concat()
    }
}

impl Drop for EncodedBody {
    fn drop(&mut self) {
        self.memory.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.memory.freed.notify_waiters();
        if self.bytes > LARGE {
            self.memory.large_gone.notify_one();
        }
    }
}

/// A body being written.
#[derive(Debug)]
pub(super) struct Pieces {
    done: Vec<Bytes>,
    last: Vec<u8>,
    bytes: usize,
}

impl Pieces {
    fn new() -> Self {
        Self { done: Vec::new(), last: Vec::new(), bytes: 0 }
    }

    fn finish(mut self, memory: &Arc<BodyMemory>) -> EncodedBody {
        if !self.last.is_empty() {
            self.done.push(self.last.into());
        }
        memory.bytes.fetch_add(self.bytes, Ordering::Relaxed);
        memory.largest.fetch_max(self.bytes, Ordering::Relaxed);
        EncodedBody { pieces: self.done, bytes: self.bytes, memory: memory.clone() }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.last.capacity() == 0 {
            self.last.reserve_exact(PIECE);
        }
        let taken = bytes.len().min(PIECE - self.last.len());
        self.last.extend_from_slice(&bytes[..taken]);
        self.bytes += taken;
        if self.last.len() == PIECE {
            self.done.push(std::mem::take(&mut self.last).into());
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A body being written, compressed or not.
#[derive(Debug)]
pub(super) enum BodyWriter {
    Plain(Pieces),
    Gzip(GzEncoder<Pieces>),
}

impl BodyWriter {
    pub(super) fn new(is_packed: bool) -> Self {
        let pieces = Pieces::new();
        if is_packed { Self::Gzip(gzip::encoder(pieces)) } else { Self::Plain(pieces) }
    }

    pub(super) fn finish(self, memory: &Arc<BodyMemory>) -> io::Result<EncodedBody> {
        Ok(match self {
            Self::Plain(pieces) => pieces,
            Self::Gzip(encoder) => encoder.finish()?,
        }
        .finish(memory))
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(pieces) => pieces.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A body that one connection reads, piece by piece.
struct BodyReader {
    encoded: Arc<EncodedBody>,
    next: usize,
    left: usize,
}

impl HttpBody for BodyReader {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.encoded.pieces.get(self.next).cloned();
        if let Some(piece) = &piece {
            self.next += 1;
            self.left -= piece.len();
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.left).unwrap_or(u64::MAX))
    }
}

/// A body that keeps its request under way until it is read.
pub(super) struct GuardedBody {
    body: Body,
    request: RequestGuard,
}

impl GuardedBody {
    pub(super) fn new(body: Body, request: RequestGuard) -> Self {
        request.answered();
        Self { body, request }
    }
}

impl HttpBody for GuardedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            self.request.took(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_body_is_what_was_written_and_is_accounted_for_while_it_lives() {
        let memory = Arc::<BodyMemory>::default();
        let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        for is_packed in [false, true] {
            let mut writer = BodyWriter::new(is_packed);
            for part in text.chunks(777) {
                writer.write_all(part).unwrap();
            }
            let encoded = Arc::new(writer.finish(&memory).unwrap());
            assert_eq!(memory.bytes.load(Ordering::Relaxed), encoded.len());
            assert!(encoded.pieces.iter().rev().skip(1).all(|piece| piece.len() == PIECE));
            let mut unpacked = encoded.to_vec();
            if is_packed {
                let packed = std::mem::take(&mut unpacked);
                flate2::read::GzDecoder::new(&*packed).read_to_end(&mut unpacked).unwrap();
            }
            assert!(unpacked == text);
            let body = encoded.body();
            assert_eq!(body.size_hint().exact(), Some(encoded.len() as u64));
            drop(encoded);
            assert!(memory.bytes.load(Ordering::Relaxed) > 0, "somebody still takes it");
            drop(body);
            assert_eq!(memory.bytes.load(Ordering::Relaxed), 0);
        }
    }
}
