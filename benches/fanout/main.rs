//! The fan-out against its floor and against other ways, in one group, so that the ratios can be read.
//!
//! One iteration sends one frame of 1, 8 or 32 packets of 1,200 bytes to every viewer, over real UDP sockets on
//! loopback. Throughput is packets: criterion's time per element is the cost of one forwarded packet. Names are
//! `way/packets x viewers`: `cargo bench --bench fanout -- '/8x(100|500)$'` compares all ways at two sizes.
//!
//! - `floor`: AES-128-GCM seal of a ready buffer and one segmented send per viewer; nothing else.
//! - `honeycast`: the shard's own fan-out: map numbers, write headers, copy, seal, send.
//! - `rtc`: an `RTCPeerConnection` of webrtc-rs's sans-IO crate per viewer, without interceptors, its packets sent
//!   with our socket, segmented.
//! - `webrtc`: a peer connection of the async crate per viewer, `TrackLocalStaticRTP::write_rtp`; up to 100 viewers,
//!   as each has a task and a socket (`FANOUT_ALL=1` for more).
//! - `naive`: seal and `sendto` packet by packet, each in a new buffer.
//! - `cameras`: the same fan-out for one camera with one viewer, and for 200 of them.

mod rivals;

use std::cell::OnceCell;
use std::hint::black_box;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use honeycast::base::udp::{RunSender, bind};
use honeycast::base::{StreamId, ViewerId};
use honeycast::egress::fanout::Fanout;
use honeycast::egress::viewer::{NewViewer, Path, RunSink};
use honeycast::media::rtp::{FIXED_HEADER_LEN, RtpHeader};
use honeycast::media::{ClockPoint, Codec, ExtSeq, Frame, FramePacket, RtpTime, SeqNo, Ssrc};
use honeycast::webrtc::{Format, NegotiatedTracks, Sealer, SrtpProfile, Track};
use rivals::{Acceptor, Async, SansIo};

const VIEWERS: [usize; 5] = [1, 10, 100, 500, 2_000];
const BURSTS: [u64; 3] = [1, 8, 32];
/// Of the `cameras`.
const FRAME_PACKETS: u64 = 8;
/// More viewers than this take the async crate long to connect.
const ASYNC_VIEWERS: usize = 100;
const PAYLOAD: usize = 1_200;
/// Receivers never read: their small buffers fill and the kernel drops, the same for every contender.
const RECEIVE_BUFFER: usize = 4 << 10;
const SEND_BUFFER: usize = 4 << 20;

struct Socket(RunSender);

impl RunSink for Socket {
    fn send_run(&mut self, path: Path, contents: &[u8], segment: usize) -> std::io::Result<()> {
        self.0.send_run(path.remote.address, path.local, contents, segment)
    }
}

fn sender() -> RunSender {
    RunSender::new(bind(SocketAddr::from(([127, 0, 0, 1], 0)), RECEIVE_BUFFER, SEND_BUFFER).expect("bind"))
        .expect("socket")
}

fn receivers(count: usize) -> (Vec<UdpSocket>, Vec<SocketAddr>) {
    let sockets: Vec<_> = (0..count)
        .map(|_| bind(SocketAddr::from(([127, 0, 0, 1], 0)), RECEIVE_BUFFER, RECEIVE_BUFFER).expect("bind"))
        .collect();
    let addresses = sockets.iter().map(|socket| socket.local_addr().expect("address")).collect();
    (sockets, addresses)
}

fn sealer(viewer: usize) -> Sealer {
    let mut key = [0x5a; 16];
    key[..8].copy_from_slice(&(viewer as u64).to_be_bytes());
    Sealer::from_master(SrtpProfile::AeadAes128Gcm, &key, &[3; 12]).expect("lengths fit")
}

fn header(seq: u64, timestamp: u32) -> [u8; FIXED_HEADER_LEN] {
    let seq = SeqNo(seq as u16);
    RtpHeader { payload_type: 96, marker: false, seq, timestamp, ssrc: Ssrc(1) }.to_bytes()
}

fn fanout(c: &mut Criterion) {
    let mut group = c.benchmark_group("fanout");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(1_500));
    let payload = Bytes::from(vec![0x41; PAYLOAD]);
    let acceptor = Acceptor::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for viewers in VIEWERS {
        let (_sockets, addresses) = receivers(viewers);
        // Handshakes cost as much as seconds of media: once, and only if they are wanted.
        let connections = OnceCell::new();
        let tracks = OnceCell::new();
        for burst in BURSTS {
            let parameter = format!("{burst}x{viewers}");
            group.throughput(Throughput::Elements(viewers as u64 * burst));

            group.bench_function(BenchmarkId::new("floor", &parameter), |b| {
                let socket = sender();
                let mut sealers: Vec<_> = (0..viewers).map(sealer).collect();
                let segment = FIXED_HEADER_LEN + PAYLOAD + sealers[0].overhead();
                let mut buffer = vec![0u8; segment * burst as usize];
                let mut seq = 1u64;
                b.iter(|| {
                    for (n, packet) in (seq..).zip(buffer.chunks_exact_mut(segment)) {
                        packet[..FIXED_HEADER_LEN].copy_from_slice(&header(n, seq as u32));
                    }
                    for (sealer, to) in sealers.iter_mut().zip(&addresses) {
                        for (n, packet) in (seq..).zip(buffer.chunks_exact_mut(segment)) {
                            sealer.seal_rtp(packet, FIXED_HEADER_LEN, ExtSeq(n)).expect("sealed");
                        }
                        let _ = black_box(socket.send_run(*to, None, &buffer, segment));
                    }
                    seq += burst;
                });
            });

            group.bench_function(BenchmarkId::new("honeycast", &parameter), |b| {
                let (mut fanout, stream, mut socket) = (Fanout::new(), StreamId::random(), Socket(sender()));
                fanout.open_stream(stream);
                let start = Instant::now();
                for (n, to) in addresses.iter().enumerate() {
                    fanout.add_viewer(viewer(n, stream, *to), start, &mut socket);
                }
                let (mut seq, mut now) = (0x1_0000u64, start);
                b.iter(|| {
                    now += Duration::from_millis(40);
                    let frame = frame(seq, burst, now, &payload);
                    fanout.on_frame(stream, &frame, now, &mut socket);
                    seq += burst;
                });
            });

            group.bench_function(BenchmarkId::new("rtc", &parameter), |b| {
                let connections = connections.get_or_init(|| {
                    let all = addresses.iter().map(|to| SansIo::connect(&acceptor, *to));
                    std::cell::RefCell::new((1u64, all.collect::<Vec<_>>()))
                });
                let (socket, mut run) = (sender(), Vec::new());
                // Numbers go on: a connection is used for all bursts.
                let (seq, connections) = &mut *connections.borrow_mut();
                b.iter(|| {
                    for connection in &mut *connections {
                        connection.send(*seq, burst, &payload, &mut run, &socket);
                    }
                    *seq += burst;
                });
            });

            if viewers <= ASYNC_VIEWERS || std::env::var_os("FANOUT_ALL").is_some() {
                group.bench_function(BenchmarkId::new("webrtc", &parameter), |b| {
                    let tracks = tracks.get_or_init(|| {
                        let all = async {
                            let mut all = Vec::new();
                            for _ in 0..viewers {
                                all.push(Async::connect(&acceptor).await);
                            }
                            all
                        };
                        (std::cell::Cell::new(1_000u64), runtime.block_on(all))
                    });
                    b.iter_custom(|iterations| {
                        runtime.block_on(async {
                            let (seq, tracks) = tracks;
                            let start = Instant::now();
                            for _ in 0..iterations {
                                for track in tracks {
                                    track.send(seq.get(), burst, &payload).await;
                                }
                                seq.set(seq.get() + burst);
                                // The connections' own tasks send.
                                tokio::task::yield_now().await;
                            }
                            start.elapsed()
                        })
                    });
                });
            }

            group.bench_function(BenchmarkId::new("naive", &parameter), |b| {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
                let mut sealers: Vec<_> = (0..viewers).map(sealer).collect();
                let mut seq = 1u64;
                b.iter(|| {
                    for (sealer, to) in sealers.iter_mut().zip(&addresses) {
                        for n in seq..seq + burst {
                            let mut packet = Vec::with_capacity(FIXED_HEADER_LEN + PAYLOAD + sealer.overhead());
                            packet.extend_from_slice(&header(n, seq as u32));
                            packet.extend_from_slice(&payload);
                            packet.resize(packet.len() + sealer.overhead(), 0);
                            sealer.seal_rtp(&mut packet, FIXED_HEADER_LEN, ExtSeq(n)).expect("sealed");
                            let _ = black_box(socket.send_to(&packet, to));
                        }
                    }
                    seq += burst;
                });
            });
        }
    }
    group.finish();
}

/// One viewer for each of many cameras: nothing is shared, so this is what the number of streams costs.
fn cameras(c: &mut Criterion) {
    let mut group = c.benchmark_group("cameras");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    for cameras in [1usize, 200] {
        let (_sockets, addresses) = receivers(cameras);
        group.throughput(Throughput::Elements(cameras as u64 * FRAME_PACKETS));
        group.bench_function(BenchmarkId::new("one viewer each", cameras), |b| {
            let (mut fanout, mut socket) = (Fanout::new(), Socket(sender()));
            let start = Instant::now();
            let streams: Vec<_> = addresses
                .iter()
                .enumerate()
                .map(|(n, to)| {
                    let stream = StreamId::random();
                    fanout.open_stream(stream);
                    fanout.add_viewer(viewer(n, stream, *to), start, &mut socket);
                    stream
                })
                .collect();
            let payload = Bytes::from(vec![0x41; PAYLOAD]);
            let (mut seq, mut now) = (0x1_0000u64, start);
            b.iter(|| {
                now += Duration::from_millis(40);
                for stream in &streams {
                    let frame = frame(seq, FRAME_PACKETS, now, &payload);
                    fanout.on_frame(*stream, &frame, now, &mut socket);
                }
                seq += FRAME_PACKETS;
            });
        });
    }
    group.finish();
}

fn viewer(n: usize, stream: StreamId, remote: SocketAddr) -> NewViewer {
    let video = Track {
        mid: "0".into(),
        ssrc: Ssrc(1),
        formats: vec![Format { codec: Codec::H264, payload_type: 96 }],
        rtx: None,
        transport_cc: None,
    };
    NewViewer {
        viewer: ViewerId::random(),
        stream,
        tracks: NegotiatedTracks { video: Some(video), audio: None, cname: "bench".into() },
        sealer: sealer(n),
        path: Path { remote: remote.into(), local: None },
        counters: Arc::default(),
        offered: Instant::now(),
    }
}

/// A keyframe each time, so that the group of pictures does not grow.
fn frame(seq: u64, burst: u64, now: Instant, payload: &Bytes) -> Arc<Frame> {
    let packets = (seq..seq + burst)
        .map(|n| FramePacket { seq: ExtSeq(n), marker: n + 1 == seq + burst, payload: payload.clone() })
        .collect();
    let time = RtpTime((1 << 32) + seq * 450);
    let clock = ClockPoint { at: now, rtp: time, rate: 90_000 };
    Arc::new(Frame { codec: Codec::H264, time, starts_keyframe: true, packets, arrived: now, clock })
}

criterion_group!(benches, fanout, cameras);
criterion_main!(benches);
