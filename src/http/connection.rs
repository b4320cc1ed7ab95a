//! One TCP connection: it has a place while it lasts, may not stall for ever, and is refused in JSON whatever it says.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::access::Admitted;

/// A client that takes nothing for so long only holds what was prepared for it.
const TAKES_WITHIN: Duration = Duration::from_secs(30);

/// A connection that was admitted. A write or flush that gets nowhere for [`TAKES_WITHIN`] ends it.
pub(super) struct Guarded<S> {
    stream: S,
    stalled: Option<Pin<Box<Sleep>>>,
    place: Admitted,
    refusal: Option<Refusal>,
}

/// What is sent for an answer of hyper's own. It answers what it cannot read as a request without asking anybody, and
/// without a body; nothing of it can be set.
struct Refusal {
    answer: Vec<u8>,
    sent: usize,
    /// Bytes of hyper's.
    stands_for: usize,
}

impl Refusal {
    /// Answers of our handlers have a body or, to `HEAD`, at least its type.
    fn instead_of(written: &[u8]) -> Option<Self> {
        let code = written.strip_prefix(b"HTTP/1.1 4")?.first_chunk::<2>()?;
        let head = std::str::from_utf8(written).ok()?.strip_suffix("\r\n\r\n")?;
        let has = |field: &str| head.split("\r\n").any(|line| line.to_ascii_lowercase().starts_with(field));
        if !has("content-length: 0") || !has("connection: close") || has("content-type:") {
            return None;
        }
        let (error, code) = match code {
            b"31" => ("The header is larger than 32 KiB or has more than 100 fields", "header_too_large"),
            _ => ("This is no HTTP/1.1 request", "bad_request"),
        };
        let body = format!(r#"{{"error":"{error}","code":"{code}"}}"#);
        let head = head.replace("content-length: 0", &format!("content-length: {}", body.len()));
        let answer = format!("{head}\r\ncontent-type: application/json\r\n\r\n{body}").into_bytes();
        Some(Self { answer, sent: 0, stands_for: written.len() })
    }
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, place: Admitted) -> Self {
        Self { stream, stalled: None, place, refusal: None }
    }

    /// The outcome of a write, unless it has been pending for too long.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(TAKES_WITHIN)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.refusal.is_none() {
            self.refusal = Refusal::instead_of(buf);
            if self.refusal.is_some() {
                self.place.unreadable();
            }
        }
        if let Some(mut refusal) = self.refusal.take() {
            while let Some(rest) = refusal.answer.get(refusal.sent..).filter(|rest| !rest.is_empty()) {
                let outcome = Pin::new(&mut self.stream).poll_write(cx, rest);
                match self.in_time(cx, outcome) {
                    Poll::Ready(Ok(taken)) if taken > 0 => refusal.sent += taken,
                    Poll::Pending => {
                        self.refusal = Some(refusal);
                        return Poll::Pending;
                    }
                    ended => return ended,
                }
            }
            return Poll::Ready(Ok(refusal.stands_for));
        }
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.in_time(cx, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.in_time(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.in_time(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // An answer of hyper's own comes in one piece.
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.in_time(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::access::Connections;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_cut_off_and_gives_its_place_back() {
        let connections = Connections::default();
        let place = connections.admit([127, 0, 0, 1].into()).unwrap();
        let (near, mut far) = tokio::io::duplex(16);
        let mut guarded = Guarded::new(near, place);
        let begun = tokio::time::Instant::now();
        let slow = tokio::spawn(async move {
            // Slow, but it takes something now and then.
            for _ in 0..5 {
                tokio::time::sleep(TAKES_WITHIN / 2).await;
                tokio::io::AsyncReadExt::read(&mut far, &mut [0; 16]).await.unwrap();
            }
            far
        });
        let error = guarded.write_all(&[0; 1_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= TAKES_WITHIN * 7 / 2 - Duration::from_millis(100), "{:?}", begun.elapsed());
        slow.await.unwrap();
        assert_eq!(connections.counts().0, 1);
        drop(guarded);
        assert_eq!(connections.counts().0, 0);
    }
}
