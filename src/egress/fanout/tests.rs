use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::egress::viewer::ViewerCounters;
use crate::media::rtcp::{RtcpBlock, blocks};
use crate::media::rtp::{DatagramKind, RtpPacket, classify};
use crate::media::{Codec, ExtSeq, FramePacket, RtpTime};
use crate::webrtc::testing::Decrypter;
use crate::webrtc::{Format, NegotiatedTracks, Rtx, Sealer, SrtpProfile, Track};

const KEY: [u8; 16] = [7; 16];
const SALT: [u8; 12] = [9; 12];
pub(super) const VIDEO: Ssrc = Ssrc(100);
pub(super) const RTX: Ssrc = Ssrc(101);
pub(super) const AUDIO: Ssrc = Ssrc(200);
/// Number of the extension that marks packets.
const EXTENSION: u8 = 5;

/// What reached each viewer's address, datagram by datagram.
#[derive(Default)]
pub(super) struct Network {
    pub(super) delivered: BTreeMap<u16, Vec<Vec<u8>>>,
    runs: Vec<usize>,
    pub(super) broken: bool,
}

impl RunSink for Network {
    fn send_run(&mut self, path: Path, contents: &[u8], segment: usize) -> std::io::Result<()> {
        if self.broken {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        self.runs.push(contents.len().div_ceil(segment));
        let inbox = self.delivered.entry(path.remote.port()).or_default();
        inbox.extend(contents.chunks(segment).map(<[u8]>::to_vec));
        Ok(())
    }
}

pub(super) struct Scene {
    pub(super) fanout: Fanout,
    pub(super) stream: StreamId,
    pub(super) network: Network,
    decrypters: BTreeMap<u16, Decrypter>,
    pub(super) now: Instant,
    start: Instant,
    seq: u64,
    time: u64,
}

impl Scene {
    pub(super) fn new() -> Self {
        let (mut fanout, stream, now) = (Fanout::new(), StreamId::random(), Instant::now());
        fanout.open_stream(stream);
        Self {
            fanout,
            stream,
            network: Network::default(),
            decrypters: BTreeMap::new(),
            now,
            start: now,
            seq: 0x1_0000,
            time: 1 << 32,
        }
    }

    pub(super) fn joins(&mut self, port: u16, rtx: bool) -> (ViewerId, Arc<ViewerCounters>) {
        let (viewer, counters) = (ViewerId::random(), Arc::<ViewerCounters>::default());
        let track = |ssrc, payload_type, codec, rtx: Option<Rtx>| Track {
            mid: "0".into(),
            ssrc,
            formats: vec![Format { codec, payload_type }],
            transport_cc: rtx.map(|_| EXTENSION),
            rtx,
        };
        let rtx = rtx.then_some(Rtx { ssrc: RTX, payload_type: 97 });
        let tracks = NegotiatedTracks {
            video: Some(track(VIDEO, 96, Codec::H264, rtx)),
            audio: Some(track(AUDIO, 111, Codec::Opus, None)),
            cname: "c".into(),
        };
        let new = NewViewer {
            viewer,
            stream: self.stream,
            tracks,
            sealer: Sealer::from_master(SrtpProfile::AeadAes128Gcm, &KEY, &SALT).unwrap(),
            path: Path { remote: ([127, 0, 0, 1], port).into(), local: None },
            counters: counters.clone(),
            offered: self.now - Duration::from_millis(70),
        };
        self.decrypters.insert(port, Decrypter::new(SrtpProfile::AeadAes128Gcm, &KEY, &SALT));
        self.fanout.add_viewer(new, self.now, &mut self.network);
        (viewer, counters)
    }

    pub(super) fn frame(&mut self, kind: MediaKind, packets: u64, starts_keyframe: bool) {
        let frame = self.next_frame(kind, packets, starts_keyframe);
        self.fanout.on_frame(self.stream, &frame, self.now, &mut self.network);
    }

    fn next_frame(&mut self, kind: MediaKind, packets: u64, starts_keyframe: bool) -> Arc<Frame> {
        self.now += Duration::from_millis(40);
        self.time += 3_600;
        let numbers = self.seq..self.seq + packets;
        self.seq += packets;
        let packets = numbers
            .map(|seq| FramePacket {
                seq: ExtSeq(seq),
                marker: seq + 1 == self.seq,
                payload: Bytes::from(vec![seq as u8; if seq + 1 == self.seq { 50 } else { 1_000 }]),
            })
            .collect();
        let time = RtpTime(self.time);
        let codec = match kind {
            MediaKind::Video => Codec::H264,
            MediaKind::Audio => Codec::Opus,
        };
        let clock = ClockPoint { at: self.now, rtp: time, rate: codec.clock_rate() };
        Arc::new(Frame { codec, time, starts_keyframe, packets, arrived: self.now, clock })
    }

    pub(super) fn start(&self) -> Instant {
        self.start
    }

    /// Drops RTCP that waits at `port`.
    pub(super) fn only_rtp(&mut self, port: u16) {
        if let Some(inbox) = self.network.delivered.get_mut(&port) {
            inbox.retain(|datagram| classify(datagram) == DatagramKind::Rtp);
        }
    }

    /// Decrypted RTP that `port` received since the last call.
    pub(super) fn received(&mut self, port: u16) -> Vec<RtpPacket> {
        let datagrams = self.network.delivered.remove(&port).unwrap_or_default();
        let decrypter = self.decrypters.get_mut(&port).unwrap();
        datagrams.iter().map(|d| RtpPacket::parse(Bytes::from(decrypter.rtp(d).unwrap())).unwrap()).collect()
    }
}

pub(super) fn seqs(packets: &[RtpPacket]) -> Vec<u16> {
    packets.iter().map(|p| p.seq().0).collect()
}

pub(super) fn consecutive(numbers: &[u16]) -> bool {
    numbers.windows(2).all(|w| w[1] == w[0].wrapping_add(1))
}

#[test]
fn every_viewer_gets_the_frame_under_its_own_numbers() {
    let mut s = Scene::new();
    s.joins(1, false);
    s.joins(2, false);
    s.frame(MediaKind::Video, 9, true);
    for port in [1, 2] {
        let got = s.received(port);
        assert_eq!(got.len(), 9);
        assert!(consecutive(&seqs(&got)));
        assert!(got[0].seq().0 < 1 << 15, "the first number leaves no doubt about the roll-over count");
        assert!(got.iter().all(|p| (p.payload_type(), p.ssrc()) == (96, VIDEO)));
        assert!(got[8].marker() && got[8].payload().len() == 50);
    }
    // Eight full packets and the short last one are one run each.
    assert_eq!(s.network.runs, [9, 9]);
}

#[test]
fn a_viewer_starts_at_a_keyframe_and_sound_starts_at_once() {
    let mut s = Scene::new();
    s.joins(1, false);
    s.frame(MediaKind::Video, 2, false);
    assert!(s.received(1).is_empty());
    s.frame(MediaKind::Audio, 1, false);
    assert_eq!(s.received(1)[0].payload_type(), 111);
    s.frame(MediaKind::Video, 2, true);
    assert_eq!(s.received(1).len(), 2);
}

#[test]
fn a_late_viewer_gets_the_group_at_once_compressed_and_then_live_frames() {
    let mut s = Scene::new();
    s.frame(MediaKind::Video, 3, true);
    for _ in 0..10 {
        s.frame(MediaKind::Video, 2, false);
    }
    s.joins(1, false);
    let replay = s.received(1);
    assert_eq!(replay.len(), 23);
    assert!(consecutive(&seqs(&replay)));
    let span = replay[22].timestamp().wrapping_sub(replay[0].timestamp());
    assert_eq!(span, 900, "ten steps of a millisecond");
    s.frame(MediaKind::Video, 1, false);
    let live = s.received(1);
    assert_eq!(live[0].seq().0, replay[22].seq().0.wrapping_add(1));
    assert_eq!(live[0].timestamp().wrapping_sub(replay[22].timestamp()), 3_600);
}

#[test]
fn a_lost_packet_comes_again_on_the_rtx_stream() {
    let mut s = Scene::new();
    let (viewer, counters) = s.joins(1, true);
    s.frame(MediaKind::Video, 3, true);
    let got = s.received(1);
    s.fanout.retransmit(viewer, VIDEO, &[got[1].seq()], s.now, &mut s.network);
    let again = s.received(1);
    assert_eq!((again[0].payload_type(), again[0].ssrc(), again[0].timestamp()), (97, RTX, got[1].timestamp()));
    assert_eq!(again[0].payload()[..2], got[1].seq().0.to_be_bytes());
    assert_eq!(again[0].payload()[2..], got[1].payload()[..]);
    assert_eq!(counters.retransmissions.load(Ordering::Relaxed), 1);
}

#[test]
fn without_rtx_a_lost_packet_comes_again_byte_for_byte() {
    let mut s = Scene::new();
    let (viewer, _) = s.joins(1, false);
    s.frame(MediaKind::Video, 3, true);
    let first = s.network.delivered[&1][1].clone();
    let got = s.received(1);
    s.fanout.retransmit(viewer, VIDEO, &[got[1].seq()], s.now, &mut s.network);
    assert_eq!(s.network.delivered[&1], [first]);
}

#[test]
fn what_was_never_sent_or_is_long_gone_is_not_resent() {
    let mut s = Scene::new();
    let (viewer, _) = s.joins(1, true);
    s.frame(MediaKind::Video, 1, true);
    let first = s.received(1)[0].seq();
    s.fanout.retransmit(viewer, VIDEO, &[SeqNo(first.0 + 1), SeqNo(first.0.wrapping_sub(1))], s.now, &mut s.network);
    assert!(s.received(1).is_empty());
    for _ in 0..RING_PACKETS[0] {
        s.frame(MediaKind::Video, 1, false);
    }
    s.received(1);
    s.fanout.retransmit(viewer, VIDEO, &[first], s.now, &mut s.network);
    assert!(s.received(1).is_empty());
}

#[test]
fn retransmissions_have_a_budget_and_nothing_comes_twice_within_a_round_trip() {
    let mut s = Scene::new();
    let (viewer, counters) = s.joins(1, true);
    for n in 0..20 {
        s.frame(MediaKind::Video, 8, n == 0);
    }
    let all: Vec<_> = s.received(1).iter().map(RtpPacket::seq).collect();
    s.fanout.retransmit(viewer, VIDEO, &all[..30], s.now, &mut s.network);
    assert_eq!(s.received(1).len(), 30);
    s.fanout.retransmit(viewer, VIDEO, &all[..30], s.now, &mut s.network);
    assert!(s.received(1).is_empty(), "the first copies are still on their way");
    s.now += Duration::from_millis(100);
    for _ in 0..50 {
        s.fanout.retransmit(viewer, VIDEO, &all, s.now, &mut s.network);
    }
    let bytes: usize = s.received(1).iter().map(|packet| packet.payload().len()).sum();
    assert!((30_000..130_000).contains(&bytes), "{bytes} bytes after a flood");
    assert!(counters.withheld.load(Ordering::Relaxed) > 7_000);
}

#[test]
fn a_lost_picture_is_cured_by_the_group_under_new_numbers_at_most_once_a_second() {
    let mut s = Scene::new();
    let (viewer, _) = s.joins(1, false);
    s.frame(MediaKind::Video, 3, true);
    let first = s.received(1);
    s.fanout.restart_viewer(viewer, s.now, &mut s.network);
    assert!(s.received(1).is_empty(), "the start was less than a second ago");
    s.now += Duration::from_secs(1);
    s.fanout.restart_viewer(viewer, s.now, &mut s.network);
    let again = s.received(1);
    assert_eq!(again.len(), 3);
    assert_eq!(again[0].seq().0, first[2].seq().0.wrapping_add(1));
    assert!(again[0].timestamp().wrapping_sub(first[2].timestamp()) < 1 << 31, "timestamps never step back");
}

#[test]
fn a_large_group_is_sent_in_turns_and_live_frames_queue_up_behind_it() {
    let mut s = Scene::new();
    s.frame(MediaKind::Video, 32, true);
    for _ in 0..9 {
        s.frame(MediaKind::Video, 32, false);
    }
    let (viewer, _) = s.joins(1, false);
    let first = s.received(1);
    assert!((1..=64).contains(&first.len()), "{} packets at once", first.len());
    s.frame(MediaKind::Video, 2, false);
    assert!(s.received(1).is_empty(), "a live frame does not overtake the replay");
    s.fanout.restart_viewer(viewer, s.now, &mut s.network);
    let mut all = first;
    while let Some(next) = s.fanout.next_replay() {
        s.now = s.now.max(next);
        s.fanout.replay(s.now, &mut s.network);
        let turn = s.received(1);
        assert!(turn.len() <= 64, "{} packets at once", turn.len());
        all.extend(turn);
    }
    assert_eq!(all.len(), 322);
    assert!(consecutive(&seqs(&all)));
}

#[test]
fn viewers_that_join_together_share_the_turns() {
    let mut s = Scene::new();
    for frame in 0..10 {
        s.frame(MediaKind::Video, 32, frame == 0);
    }
    (1..=4).for_each(|port| drop(s.joins(port, false)));
    let mut turns = 0;
    while let Some(next) = s.fanout.next_replay() {
        s.now = s.now.max(next);
        s.fanout.replay(s.now, &mut s.network);
        turns += 1;
    }
    assert!(turns >= 4 * 320 / 64 - 1, "{turns} turns");
    for port in 1..=4 {
        let got = s.received(port);
        assert_eq!(got.len(), 320);
        assert!(consecutive(&seqs(&got)));
    }
}

#[test]
fn a_group_is_no_burst_and_ends_at_the_live_edge_within_a_second() {
    let (mut s, interval) = (Scene::new(), Duration::from_millis(40));
    s.frame(MediaKind::Video, 30, true);
    // Five seconds, 2 Mbit/s.
    for _ in 0..124 {
        s.frame(MediaKind::Video, 10, false);
    }
    s.joins(1, false);
    let (joined, mut next_frame) = (s.now, s.now + interval);
    let mut got: Vec<(Duration, RtpPacket)> = Vec::new();
    let mut live = 0;
    while s.fanout.next_replay().is_some() {
        s.now += Duration::from_millis(1);
        assert!(s.now < joined + Duration::from_secs(1), "{} packets in a second", got.len());
        if s.now >= next_frame {
            // Its time is where it belongs whenever it is made.
            s.now -= interval;
            s.frame(MediaKind::Video, 10, false);
            (next_frame, live) = (next_frame + interval, live + 1);
        }
        s.fanout.replay(s.now, &mut s.network);
        let at = s.now - joined;
        got.extend(s.received(1).into_iter().map(|packet| (at, packet)));
    }
    assert_eq!(got.len(), 30 + 10 * (124 + live));
    assert!(got[29].0 <= Duration::from_millis(6), "the first picture does not wait");
    let most = (0..600).map(|ms| {
        let window = Duration::from_millis(ms)..Duration::from_millis(ms + 50);
        got.iter().filter(|(at, _)| window.contains(at)).count()
    });
    // Eight times the stream's 250 packets a second, and what may leave at once.
    assert!(most.max().unwrap() <= 250 * 9 / 20 + 32 + 20, "a burst");
    let behind = |packet: &RtpPacket, at: Duration| {
        let since = packet.timestamp().wrapping_sub(got[0].1.timestamp());
        at.as_millis() as i64 - i64::from(since) / 90
    };
    let ways: Vec<_> = got.iter().map(|(at, packet)| behind(packet, *at)).collect();
    assert!(ways.iter().all(|way| (-130..=45).contains(way)), "times go with the clock: {ways:?}");
    assert!(got.windows(2).all(|w| w[1].1.timestamp().wrapping_sub(w[0].1.timestamp()) < 1 << 31));
    let last = got.last().unwrap().1.timestamp();
    s.frame(MediaKind::Video, 1, false);
    assert_eq!(s.received(1)[0].timestamp().wrapping_sub(last), 3_600, "without a step at the live edge");
}

#[test]
fn what_a_full_socket_refuses_of_a_replay_is_sent_again_later() {
    let mut s = Scene::new();
    for frame in 0..4 {
        s.frame(MediaKind::Video, 32, frame == 0);
    }
    s.network.broken = true;
    s.joins(1, false);
    assert!(s.received(1).is_empty());
    s.network.broken = false;
    while let Some(next) = s.fanout.next_replay() {
        s.now = s.now.max(next);
        s.fanout.replay(s.now, &mut s.network);
    }
    let got = s.received(1);
    assert_eq!(got.len(), 128);
    assert!(consecutive(&seqs(&got)));
}

#[test]
fn one_group_is_shown_twice_at_most_and_never_again_with_a_hole() {
    let mut s = Scene::new();
    let (viewer, _) = s.joins(1, false);
    s.frame(MediaKind::Video, 3, true);
    let showings = |s: &mut Scene| {
        let mut count = 0;
        for _ in 0..5 {
            s.received(1);
            s.frame(MediaKind::Video, 1, false);
            s.now += Duration::from_secs(1);
            s.received(1);
            s.fanout.restart_viewer(viewer, s.now, &mut s.network);
            count += usize::from(!s.received(1).is_empty());
        }
        count
    };
    assert_eq!(showings(&mut s), 1, "it was shown live once");
    s.frame(MediaKind::Video, 3, true);
    // A packet that the camera's network lost.
    s.seq += 1;
    s.frame(MediaKind::Video, 2, false);
    assert_eq!(showings(&mut s), 0, "it would break the decoder at the same place");
}

#[test]
fn a_silent_cameras_past_is_not_shown_to_anybody() {
    let mut s = Scene::new();
    let (viewer, _) = s.joins(1, false);
    s.frame(MediaKind::Video, 3, true);
    s.received(1);
    s.now += Duration::from_secs(3);
    s.fanout.restart_viewer(viewer, s.now, &mut s.network);
    assert!(s.received(1).is_empty(), "browsers ask every 3 s while nothing comes");
    s.joins(2, false);
    assert!(s.received(2).is_empty());
}

#[test]
fn sender_reports_of_both_tracks_share_one_clock() {
    let mut s = Scene::new();
    s.joins(1, false);
    s.frame(MediaKind::Video, 1, true);
    s.frame(MediaKind::Audio, 1, false);
    let (video_packet, audio_packet) = {
        let got = s.received(1);
        (got[0].clone(), got[1].clone())
    };
    let wall = SystemTime::now();
    s.now += Duration::from_millis(500);
    s.fanout.tick(s.now, wall, &mut s.network);
    let datagrams = s.network.delivered.remove(&1).unwrap();
    let decrypter = s.decrypters.get_mut(&1).unwrap();
    let reports: Vec<_> = datagrams
        .iter()
        .map(|d| {
            let compound = decrypter.rtcp(d).unwrap();
            let mut all = blocks(&compound).map(Result::unwrap);
            let Some(RtcpBlock::SenderReport(info, _)) = all.next() else { panic!("no sender report") };
            assert!(matches!(all.next(), Some(RtcpBlock::Other { packet_type: 202, .. })), "SDES follows");
            info
        })
        .collect();
    assert_eq!(reports.iter().map(|r| r.ssrc).collect::<Vec<_>>(), [VIDEO, AUDIO]);
    assert_eq!(reports[0].ntp, reports[1].ntp);
    // Video arrived 540 ms ago, sound 500 ms ago.
    assert_eq!(reports[0].rtp_time.wrapping_sub(video_packet.timestamp()), 540 * 90);
    assert_eq!(reports[1].rtp_time.wrapping_sub(audio_packet.timestamp()), 500 * 48);
    s.fanout.tick(s.now, wall, &mut s.network);
    assert!(!s.network.delivered.contains_key(&1), "the next is due in a second");
}

#[test]
fn a_closed_viewer_gets_nothing_and_the_others_go_on() {
    let mut s = Scene::new();
    let (leaver, _) = s.joins(1, false);
    let (_, flagged) = s.joins(2, false);
    s.joins(3, false);
    s.fanout.remove_viewer(leaver);
    flagged.closed.store(true, Ordering::Relaxed);
    s.fanout.tick(s.now, SystemTime::now(), &mut s.network);
    s.network.delivered.clear();
    s.frame(MediaKind::Video, 1, true);
    assert_eq!(s.network.delivered.keys().collect::<Vec<_>>(), [&3]);
}

#[test]
fn a_refused_run_is_counted_and_harms_nobody() {
    let mut s = Scene::new();
    let (_, counters) = s.joins(1, false);
    s.network.broken = true;
    s.frame(MediaKind::Video, 3, true);
    s.network.broken = false;
    s.frame(MediaKind::Video, 3, false);
    assert_eq!(counters.refused_runs.load(Ordering::Relaxed), 1);
    assert_eq!(s.received(1).len(), 3);
}

#[test]
fn a_viewer_moves_to_the_address_that_ice_proved() {
    let mut s = Scene::new();
    let (viewer, _) = s.joins(1, false);
    s.fanout.set_path(viewer, Path { remote: ([127, 0, 0, 1], 9).into(), local: None });
    s.frame(MediaKind::Video, 1, true);
    assert_eq!(s.network.delivered.keys().collect::<Vec<_>>(), [&9]);
}

#[test]
fn more_than_two_to_the_sixteen_packets_decrypt_across_the_roll_over() {
    let mut s = Scene::new();
    s.joins(1, false);
    s.frame(MediaKind::Video, 1, true);
    let mut last = s.received(1)[0].seq();
    for _ in 0..70_000 / 32 {
        s.frame(MediaKind::Video, 32, false);
        let got = s.received(1);
        assert_eq!(got[0].seq().0, last.0.wrapping_add(1));
        last = got[31].seq();
    }
}

/// The network of a viewer whose connection takes nothing.
struct Stuck<'a>(&'a mut Network);

impl RunSink for Stuck<'_> {
    fn send_run(&mut self, path: Path, contents: &[u8], segment: usize) -> std::io::Result<()> {
        match path.remote.connection {
            Some(_) => Err(std::io::ErrorKind::WouldBlock.into()),
            None => self.0.send_run(path, contents, segment),
        }
    }
}

#[test]
fn a_tcp_viewer_that_takes_nothing_does_not_hold_up_the_replay_of_others_and_waits_for_a_keyframe() {
    let mut s = Scene::new();
    s.frame(MediaKind::Video, 30, true);
    for _ in 0..20 {
        s.frame(MediaKind::Video, 30, false);
    }
    let (stuck, counters) = s.joins(1, false);
    let address = ([127, 0, 0, 1], 1).into();
    let remote = crate::webrtc::Remote { address, connection: Some(crate::webrtc::ConnectionId(1)) };
    s.fanout.set_path(stuck, Path { remote, local: None });
    s.joins(2, false);
    // Filmed in 800 ms, replayed in 100.
    let by = s.now + Duration::from_millis(100);
    while s.network.delivered.get(&2).map_or(0, Vec::len) < 21 * 30 {
        s.now += REPLAY_LOOK;
        s.fanout.replay(s.now, &mut Stuck(&mut s.network));
        assert!(s.now <= by, "nothing is lost to the one that is stuck");
    }
    // What waits for it has an end, and then it begins anew.
    for _ in 0..200 {
        s.now += Duration::from_millis(40);
        let before = counters.packets.load(Ordering::Relaxed);
        let mut network = std::mem::take(&mut s.network);
        let frame = s.next_frame(MediaKind::Video, 30, false);
        s.fanout.on_frame(s.stream, &frame, s.now, &mut Stuck(&mut network));
        s.fanout.replay(s.now, &mut Stuck(&mut network));
        s.network = network;
        assert_eq!(counters.packets.load(Ordering::Relaxed), before);
    }
    assert!(s.fanout.next_replay().is_none(), "nothing waits any more");
    s.fanout.set_path(stuck, Path { remote: address.into(), local: None });
    s.network.delivered.remove(&1);
    s.frame(MediaKind::Video, 3, false);
    assert!(!s.network.delivered.contains_key(&1), "not before a keyframe");
    s.frame(MediaKind::Video, 3, true);
    assert_eq!(s.received(1).len(), 3);
}
