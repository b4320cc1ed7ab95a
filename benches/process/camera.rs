//! A camera of a known rate whose packets tell when they were sent. On MQTT it is a simulated camera that keeps
//! its pictures to itself; the pictures come from here, from the same address.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use honeycast::media::rtp::{FIXED_HEADER_LEN, RtpHeader};
use honeycast::media::{SeqNo, Ssrc};

/// What the SDP in `play` names.
const PAYLOAD_TYPE: u8 = 103;
const SSRC: Ssrc = Ssrc(1_607_797_317);
const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xba];
const PPS: &[u8] = &[0x68, 0xce, 0x38, 0x80];
/// Headers of the first slice of an IDR and of a P picture, as FU-A: indicator, type, first bytes.
const IDR: (u8, u8, [u8; 2]) = (0x7c, 5, [0x88, 0x84]);
const P: (u8, u8, [u8; 2]) = (0x5c, 1, [0x9a, 0x11]);
/// One group of pictures, in frames.
const GROUP: u64 = 50;
/// Frames whose times are remembered.
const REMEMBERED: usize = 4_096;
/// Decimal digits: no byte sequence that H.264 would have to escape.
const DIGITS: usize = 12;
/// A fragment's payload before the number: indicator, FU header, two bytes of slice header.
const BEFORE_NUMBER: usize = 4;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) frames_per_second: u32,
    /// Including the one with the parameter sets in a keyframe.
    pub(crate) packets_per_frame: u64,
    /// RTP payload bytes of every packet but a frame's last.
    pub(crate) payload: usize,
    /// Of the last one: what was left of the picture when it was cut.
    pub(crate) rest: usize,
}

/// 2 Mbit/s of UDP payload in frames of 8 packets.
pub(crate) const TWO_MBIT: Rate = Rate { frames_per_second: 26, packets_per_frame: 8, payload: 1_190, rest: 1_000 };
/// So little that it costs nothing.
pub(crate) const TRICKLE: Rate = Rate { frames_per_second: 10, packets_per_frame: 2, payload: 300, rest: 200 };

/// When frames left and when they had arrived everywhere, in nanoseconds of the system's clock (the kernel's
/// receive timestamps know no other).
pub(crate) struct Times {
    frames: Vec<FrameTimes>,
}

#[derive(Default)]
struct FrameTimes {
    number: AtomicU64,
    /// Just before the last packet was handed to the kernel.
    sent: AtomicU64,
    /// The latest viewer.
    arrived: AtomicU64,
    viewers: AtomicU64,
}

impl Times {
    pub(crate) fn new() -> Self {
        Self { frames: (0..REMEMBERED).map(|_| FrameTimes::default()).collect() }
    }

    fn on_sent(&self, number: u64) {
        let frame = &self.frames[number as usize % REMEMBERED];
        frame.arrived.store(0, Ordering::Relaxed);
        frame.viewers.store(0, Ordering::Relaxed);
        frame.sent.store(now(), Ordering::Relaxed);
        frame.number.store(number, Ordering::Release);
    }

    /// A viewer has received the frame's last packet.
    pub(crate) fn on_arrived(&self, number: u64, at: u64) {
        let frame = &self.frames[number as usize % REMEMBERED];
        if frame.number.load(Ordering::Acquire) == number {
            frame.arrived.fetch_max(at, Ordering::Relaxed);
            frame.viewers.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// From the camera's last packet to the last of `viewers`, for the frames sent since `since` that all of them have
    /// received.
    pub(crate) fn delays(&self, viewers: u64, since: u64) -> Vec<Duration> {
        let whole = self.frames.iter().filter(|frame| {
            frame.viewers.load(Ordering::Relaxed) == viewers && frame.sent.load(Ordering::Relaxed) >= since
        });
        let mut delays: Vec<_> = whole
            .map(|frame| frame.arrived.load(Ordering::Relaxed).saturating_sub(frame.sent.load(Ordering::Relaxed)))
            .map(Duration::from_nanos)
            .collect();
        delays.sort_unstable();
        delays
    }
}

/// Nanoseconds of the system's clock.
pub(crate) fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64
}

/// Sends until it is dropped.
pub(crate) struct RtpCamera {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RtpCamera {
    pub(crate) fn start(from: SocketAddr, to: SocketAddr, rate: Rate, times: Arc<Times>) -> Self {
        let socket = UdpSocket::bind(from).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let interval = Duration::from_secs(1) / rate.frames_per_second;
            let mut next = Instant::now();
            for frame in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                for index in 0..rate.packets_per_frame {
                    let packet = packet(rate, frame, index);
                    if index + 1 == rate.packets_per_frame {
                        times.on_sent(frame);
                    }
                    // Nobody may listen yet.
                    let _ = socket.send_to(&packet, to);
                }
                next += interval;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for RtpCamera {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn packet(rate: Rate, frame: u64, index: u64) -> Vec<u8> {
    let number = frame * rate.packets_per_frame + index;
    let last = index + 1 == rate.packets_per_frame;
    let timestamp = (frame * 90_000 / u64::from(rate.frames_per_second)) as u32;
    let seq = SeqNo(number as u16);
    let header = RtpHeader { payload_type: PAYLOAD_TYPE, marker: last, seq, timestamp, ssrc: SSRC };
    let mut out = header.to_bytes().to_vec();
    let keyframe = frame.is_multiple_of(GROUP);
    if keyframe && index == 0 {
        out.push(0x78);
        for set in [SPS, PPS] {
            out.extend_from_slice(&(set.len() as u16).to_be_bytes());
            out.extend_from_slice(set);
        }
        return out;
    }
    let (indicator, kind, slice) = if keyframe { IDR } else { P };
    let begins = if index == u64::from(keyframe) { 0x80 } else { 0 };
    let ends = if last { 0x40 } else { 0 };
    out.extend_from_slice(&[indicator, kind | begins | ends]);
    out.extend_from_slice(&slice);
    out.extend_from_slice(format!("{number:0DIGITS$}").as_bytes());
    out.resize(FIXED_HEADER_LEN + if last { rate.rest } else { rate.payload }, 0x55);
    out
}

/// The number of a packet, counted through the stream, by its RTP payload. Packets with parameter sets have none.
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    let digits = payload.get(BEFORE_NUMBER..BEFORE_NUMBER + DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
