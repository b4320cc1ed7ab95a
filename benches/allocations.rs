//! How often the hot paths ask for memory, counted: `cargo bench --bench allocations`. Fails if the fan-out does so
//! once it is running.

#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use honeycast::base::udp::{RunSender, bind};
use honeycast::base::{StreamId, ViewerId};
use honeycast::egress::fanout::Fanout;
use honeycast::egress::viewer::{NewViewer, Path, RunSink};
use honeycast::media::clock::StreamClock;
use honeycast::media::pipeline::Pipeline;
use honeycast::media::receive::TrackReceiver;
use honeycast::media::rtp::{RtpHeader, RtpPacket};
use honeycast::media::{ClockPoint, Codec, ExtSeq, Frame, FramePacket, MediaKind, RtpTime, SeqNo, Ssrc};
use honeycast::webrtc::feedback::{CameraFeedback, FeedbackSettings};
use honeycast::webrtc::{Format, NegotiatedTracks, Sealer, SrtpProfile, Track};

const VIEWERS: u64 = 100;
const FRAME_PACKETS: u64 = 8;
/// Frames from one keyframe to the next.
const GROUP: u64 = 50;
const FRAMES: u64 = 2_000;
const PAYLOAD: usize = 1_200;

struct Socket(RunSender);

impl RunSink for Socket {
    fn send_run(&mut self, path: Path, contents: &[u8], segment: usize) -> std::io::Result<()> {
        self.0.send_run(path.remote.address, path.local, contents, segment)
    }
}

fn frame(number: u64, now: Instant, payload: &Bytes) -> Arc<Frame> {
    let first = number * FRAME_PACKETS;
    let packets = (first..first + FRAME_PACKETS)
        .map(|n| FramePacket { seq: ExtSeq(0x1_0000 + n), marker: n % FRAME_PACKETS == 7, payload: payload.clone() })
        .collect();
    let time = RtpTime((1 << 32) + number * 3_600);
    let clock = ClockPoint { at: now, rtp: time, rate: 90_000 };
    let starts_keyframe = number.is_multiple_of(GROUP);
    Arc::new(Frame { codec: Codec::H264, time, starts_keyframe, packets, arrived: now, clock })
}

/// From a frame in the shard to its datagrams in the kernel.
fn fanout() {
    let listener = bind(([127, 0, 0, 1], 0).into(), 4 << 10, 4 << 10).expect("bind");
    let remote = listener.local_addr().expect("an address");
    let sender = bind(([127, 0, 0, 1], 0).into(), 4 << 10, 4 << 20).expect("bind");
    let mut socket = Socket(RunSender::new(sender).expect("a sender"));
    let (mut fanout, stream, mut now) = (Fanout::new(), StreamId::random(), Instant::now());
    fanout.open_stream(stream);
    for n in 0..VIEWERS {
        let video = Track {
            mid: "0".into(),
            ssrc: Ssrc(1),
            formats: vec![Format { codec: Codec::H264, payload_type: 96 }],
            rtx: None,
            transport_cc: None,
        };
        let viewer = NewViewer {
            viewer: ViewerId::random(),
            stream,
            tracks: NegotiatedTracks { video: Some(video), audio: None, cname: "bench".into() },
            sealer: Sealer::from_master(SrtpProfile::AeadAes128Gcm, &[n as u8; 16], &[3; 12]).expect("lengths fit"),
            path: Path { remote: remote.into(), local: None },
            counters: Arc::default(),
            offered: now,
        };
        fanout.add_viewer(viewer, now, &mut socket);
    }
    let payload = Bytes::from(vec![0x41; PAYLOAD]);
    let mut run = |frames: std::ops::Range<u64>| {
        let frames: Vec<_> = frames
            .map(|n| {
                now += Duration::from_millis(40);
                (frame(n, now, &payload), now)
            })
            .collect();
        allocation_counter::measure(|| {
            for (frame, now) in &frames {
                fanout.on_frame(stream, frame, *now, &mut socket);
            }
        })
    };
    let first = run(0..GROUP);
    let steady = run(GROUP..GROUP + FRAMES);
    println!(
        "fan-out to {VIEWERS} viewers: {} allocations in the first group of pictures, {} in {} packets forwarded after it",
        first.count_total,
        steady.count_total,
        FRAMES * FRAME_PACKETS * VIEWERS
    );
    assert_eq!(steady.count_total, 0, "the fan-out allocates");
}

/// From a received datagram to its place in a frame.
fn ingest() {
    let settings = FeedbackSettings { ssrc: Ssrc(1), cname: "bench".into(), bitrate_range: (500_000, 5_000_000) };
    let mut feedback = CameraFeedback::new(settings);
    let (mut receiver, mut pipeline) = (TrackReceiver::new(), Pipeline::new(MediaKind::Video));
    let (mut clock, mut frames, mut now) = (StreamClock::default(), Vec::new(), Instant::now());
    let packets: Vec<Bytes> = (0..FRAMES * FRAME_PACKETS)
        .map(|n| {
            let (marker, timestamp) = (n % FRAME_PACKETS == 7, (n / FRAME_PACKETS * 3_600) as u32);
            let seq = SeqNo(n as u16);
            let header = RtpHeader { payload_type: 103, marker, seq, timestamp, ssrc: Ssrc(1_607_797_317) };
            Bytes::from([&header.to_bytes()[..], &[0x41; PAYLOAD]].concat())
        })
        .collect();
    let counted = allocation_counter::measure(|| {
        for bytes in &packets {
            now += Duration::from_millis(5);
            let packet = RtpPacket::parse(bytes.clone()).expect("valid");
            let placed = receiver
                .place(&packet, Codec::H264, false, &|| clock.expected(MediaKind::Video, now), now)
                .expect("in order");
            feedback.on_rtp(Codec::H264, &packet, placed.restarted, now);
            let clock = clock.on_packet(Codec::H264, placed.time, now);
            pipeline.push(&packet, placed, clock, now, &mut frames);
            frames.clear();
            while feedback.poll_datagram(now).is_some() {}
        }
    });
    println!(
        "ingest: {:.2} allocations per packet received, {:.1} per frame of {FRAME_PACKETS}",
        counted.count_total as f64 / packets.len() as f64,
        counted.count_total as f64 / FRAMES as f64
    );
}

fn main() {
    fanout();
    ingest();
}
