//! What one RTP packet costs on its way in, and what rewriting its numbers costs on the way out.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use honeycast::media::clock::StreamClock;
use honeycast::media::pipeline::Pipeline;
use honeycast::media::receive::TrackReceiver;
use honeycast::media::rewrite::Rewrite;
use honeycast::media::rtp::{RtpHeader, RtpPacket};
use honeycast::media::{Codec, ExtSeq, MediaKind, RtpTime, SeqNo, Ssrc};
use honeycast::webrtc::feedback::{CameraFeedback, FeedbackSettings};

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

criterion_group!(benches, parse, ingest, rewrite);
criterion_main!(benches);
