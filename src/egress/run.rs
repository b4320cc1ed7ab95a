//! Runs: sealed packets of equal size for one address, handed to the kernel together.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use super::stats::ViewerCounters;
use crate::media::ExtSeq;
use crate::media::rtp::{EXTENSION_BIT, FIXED_HEADER_LEN, RtpHeader};
use crate::webrtc::{Remote, Sealer};

/// Sends datagrams of equal size, the last one possibly shorter, to one address.
pub trait RunSink {
    /// `contents` is cut into datagrams of `segment` bytes.
    ///
    /// # Errors
    ///
    /// The run (or the rest of it) was not sent and is lost.
    fn send_run(&mut self, path: Path, contents: &[u8], segment: usize) -> io::Result<()>;
}

/// Where a viewer is, and the address of ours that it talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The browser's address, or its connection.
    pub remote: Remote,
    /// Ours, so that a machine with several answers from the right one.
    pub local: Option<IpAddr>,
}

/// Collects sealed packets of equal size; a shorter one may end a run (how GSO cuts it again).
pub(super) struct RunBuilder<'a, S> {
    run: &'a mut Vec<u8>,
    segment: usize,
    path: Path,
    counters: &'a ViewerCounters,
    sink: &'a mut S,
    refused: Option<io::Error>,
}

/// GSO's own limit is 64; a keyframe's viewers take turns after this many (design §3).
const MAX_RUN_PACKETS: usize = 32;

impl<'a, S: RunSink> RunBuilder<'a, S> {
    pub(super) fn new(run: &'a mut Vec<u8>, path: Path, counters: &'a ViewerCounters, sink: &'a mut S) -> Self {
        Self { run, segment: 0, path, counters, sink, refused: None }
    }

    /// Sends the rest.
    ///
    /// # Errors
    ///
    /// A run was refused, this one or an earlier one.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.flush();
        self.refused.map_or(Ok(()), Err)
    }

    /// Bytes sent to the viewer so far and of this run, modulo 2^32.
    pub(super) fn total(&self) -> u32 {
        self.counters.sent().wrapping_add(self.run.len() as u32)
    }

    /// Seals a packet into the run. `extension` is empty or a header extension block, `prefix` leads the payload.
    pub(super) fn add(
        &mut self,
        sealer: &mut Sealer,
        header: RtpHeader,
        seq: ExtSeq,
        extension: &[u8],
        prefix: &[u8],
        payload: &[u8],
    ) {
        let header_len = FIXED_HEADER_LEN + extension.len();
        let size = header_len + prefix.len() + payload.len() + sealer.overhead();
        let ended = !self.run.len().is_multiple_of(self.segment.max(1));
        let full = self.run.len() + size > (MAX_RUN_PACKETS * self.segment).min(crate::base::udp::MAX_RUN_BYTES);
        if !self.run.is_empty() && (ended || full || size > self.segment) {
            self.flush();
        }
        if self.run.is_empty() {
            self.segment = size;
        }
        let start = self.run.len();
        self.run.extend_from_slice(&header.to_bytes());
        if !extension.is_empty() {
            self.run[start] |= EXTENSION_BIT;
            self.run.extend_from_slice(extension);
        }
        self.run.extend_from_slice(prefix);
        self.run.extend_from_slice(payload);
        self.run.resize(start + size, 0);
        if sealer.seal_rtp(&mut self.run[start..], header_len, seq).is_err() {
            self.run.truncate(start);
        }
    }

    fn flush(&mut self) {
        if self.run.is_empty() {
            return;
        }
        let packets = self.run.len().div_ceil(self.segment.max(1)) as u64;
        match self.sink.send_run(self.path, self.run, self.segment) {
            Ok(()) => {
                self.counters.runs.fetch_add(1, Ordering::Relaxed);
                self.counters.packets.fetch_add(packets, Ordering::Relaxed);
                self.counters.bytes.fetch_add(self.run.len() as u64, Ordering::Relaxed);
            }
            Err(error) => {
                self.counters.refused_runs.fetch_add(1, Ordering::Relaxed);
                self.refused = Some(error);
            }
        }
        self.run.clear();
    }
}
