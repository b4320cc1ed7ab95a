//! What one RTP packet costs on its way in, what rewriting its numbers costs on the way out, and what a viewer's report
//! of arrivals costs.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use honeycast::base::{StreamId, ViewerId};
use honeycast::egress::fanout::Fanout;
use honeycast::egress::viewer::{Heard, NewViewer, Path, RunSink};
use honeycast::media::clock::StreamClock;
use honeycast::media::pipeline::Pipeline;
use honeycast::media::receive::TrackReceiver;
use honeycast::media::rewrite::Rewrite;
use honeycast::media::rtcp::{RtcpBlock, blocks};
use honeycast::media::rtp::{RtpHeader, RtpPacket};
use honeycast::media::{ClockPoint, Codec, ExtSeq, Frame, FramePacket, MediaKind, RtpTime, SeqNo, Ssrc};
use honeycast::webrtc::feedback::{CameraFeedback, FeedbackSettings};
use honeycast::webrtc::{Format, NegotiatedTracks, Rtx, Sealer, SrtpProfile, Track};

const PAYLOAD: usize = 1_200;

fn packet(seq: u16, timestamp: u32, marker: bool) -> Bytes {
    let header = RtpHeader { payload_type: 103, marker, seq: SeqNo(seq), timestamp, ssrc: Ssrc(1_607_797_317) };
    Bytes::from([&header.to_bytes()[..], &[0x41; PAYLOAD]].concat())
}

fn parse(c: &mut Criterion) {
    let bytes = packet(1, 2, true);
    let mut group = c.benchmark_group("rtp");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse", |b| b.iter(|| RtpPacket::parse(black_box(bytes.clone()))));
    group.finish();
}

/// Everything between the socket and the shards for one packet, frames of 8.
fn ingest(c: &mut Criterion) {
    let mut group = c.benchmark_group("rtp");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse, place, feedback chain, repair, frame", |b| {
        let settings = FeedbackSettings { ssrc: Ssrc(1), cname: "bench".into(), bitrate_range: (500_000, 5_000_000) };
        let mut feedback = CameraFeedback::new(settings);
        let mut receiver = TrackReceiver::new();
        let mut pipeline = Pipeline::new(MediaKind::Video);
        let mut frames = Vec::new();
        let mut clock = StreamClock::default();
        let mut now = Instant::now();
        let packets: Vec<Bytes> = (0..=u16::MAX).map(|n| packet(n, u32::from(n / 8) * 3_600, n % 8 == 7)).collect();
        let mut next = packets.iter().cycle();
        b.iter(|| {
            now += Duration::from_millis(5);
            let packet = RtpPacket::parse(next.next().expect("the cycle has no end").clone()).expect("valid");
            let placed = receiver
                .place(&packet, Codec::H264, false, &|| clock.expected(MediaKind::Video, now), now)
                .expect("in order");
            feedback.on_rtp(Codec::H264, &packet, placed.restarted, now);
            let clock = clock.on_packet(Codec::H264, placed.time, now);
            pipeline.push(&packet, placed, clock, now, &mut frames);
            black_box(frames.drain(..).count());
            black_box(feedback.poll_datagram(now))
        });
    });
    group.finish();
}

fn rewrite(c: &mut Criterion) {
    let mut group = c.benchmark_group("rtp");
    group.throughput(Throughput::Elements(1));
    group.bench_function("rewrite", |b| {
        let mut rewrite = Rewrite::new(ExtSeq(1), RtpTime(1));
        rewrite.start(ExtSeq(1_000), 0, RtpTime(1_000));
        let mut seq = 1_000;
        b.iter(|| {
            seq += 1;
            black_box(rewrite.map(ExtSeq(seq), RtpTime(seq * 450)))
        });
    });
    group.finish();
}

/// Remembers the transport-wide number of the last packet that had one; extensions are not encrypted.
#[derive(Default)]
struct LastMark(u16);

impl RunSink for LastMark {
    fn send_run(&mut self, _: Path, contents: &[u8], _: usize) -> std::io::Result<()> {
        if contents[0] & 0x10 != 0 {
            self.0 = u16::from_be_bytes([contents[17], contents[18]]);
        }
        Ok(())
    }
}

/// A report of five arrivals, decrypted, as browsers send about three a second: read it, find what was sent when, judge
/// the queue.
fn arrivals(c: &mut Criterion) {
    const MARKS: u16 = 5;
    const INTERVAL: Duration = Duration::from_millis(80);
    let (mut fanout, stream, viewer, mut sink) =
        (Fanout::new(), StreamId::random(), ViewerId::random(), LastMark::default());
    let (begun, mut frames) = (Instant::now(), 0u32);
    let video = Track {
        mid: "0".into(),
        ssrc: Ssrc(1),
        formats: vec![Format { codec: Codec::H264, payload_type: 96 }],
        rtx: Some(Rtx { ssrc: Ssrc(2), payload_type: 97 }),
        transport_cc: Some(5),
    };
    let new = NewViewer {
        viewer,
        stream,
        tracks: NegotiatedTracks { video: Some(video), audio: None, cname: "bench".into() },
        sealer: Sealer::from_master(SrtpProfile::AeadAes128Gcm, &[7; 16], &[9; 12]).expect("a key"),
        path: Path { remote: ([127, 0, 0, 1], 9).into(), local: None },
        counters: Arc::default(),
        offered: begun,
    };
    fanout.open_stream(stream);
    fanout.add_viewer(new, begun, &mut sink);
    let mut group = c.benchmark_group("rtp");
    group.throughput(Throughput::Elements(1));
    group.bench_function("report of five arrivals", |b| {
        b.iter_custom(|iterations| {
            let mut taken = Duration::ZERO;
            for _ in 0..iterations {
                for _ in 0..MARKS {
                    frames += 1;
                    let now = begun + INTERVAL * frames;
                    let (seq, time) = (ExtSeq(0x1_0000 + u64::from(frames)), RtpTime(u64::from(frames) * 7_200));
                    let packets = vec![FramePacket { seq, marker: true, payload: Bytes::from_static(&[0x41; 100]) }];
                    let clock = ClockPoint { at: now, rtp: time, rate: 90_000 };
                    let starts_keyframe = frames % 50 == 1;
                    let frame = Frame { codec: Codec::H264, time, starts_keyframe, packets, arrived: now, clock };
                    fanout.on_frame(stream, &Arc::new(frame), now, &mut sink);
                }
                // In units of 64 ms, and then 80 ms from one to the next in units of 250 µs, in two bytes each.
                let first = (frames - u32::from(MARKS)) * INTERVAL.as_millis() as u32 / 64;
                let mut report = vec![0x8f, 205, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1];
                report.extend_from_slice(&(sink.0.wrapping_sub(MARKS - 1)).to_be_bytes());
                report.extend_from_slice(&MARKS.to_be_bytes());
                report.extend_from_slice(&first.to_be_bytes()[1..]);
                report.push(0);
                report.extend_from_slice(&(0x4000 | MARKS).to_be_bytes());
                (0..MARKS).for_each(|_| report.extend_from_slice(&320u16.to_be_bytes()));
                report.resize(36, 0);
                let now = begun + INTERVAL * frames;
                let begins = Instant::now();
                for block in blocks(black_box(&report)) {
                    let RtcpBlock::Arrivals(feedback) = block.expect("well-formed") else { panic!("no report") };
                    fanout.heard(viewer, &Heard::Arrivals(feedback.arrivals().collect()), now);
                }
                taken += begins.elapsed();
            }
            taken
        });
    });
    group.finish();
}

criterion_group!(benches, parse, ingest, rewrite, arrivals);
criterion_main!(benches);
