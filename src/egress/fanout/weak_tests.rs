//! A viewer whose path is too narrow, beside one whose path is not.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::tests::{AUDIO, RTX, Scene, VIDEO, consecutive, seqs};
use crate::base::ViewerId;
use crate::egress::stats::{ViewerCounters, ViewerStats};
use crate::egress::thinning::ThinReason;
use crate::egress::viewer::Heard;
use crate::media::rtp::{EXTENSION_BIT, RtpPacket};
use crate::media::{MediaKind, SeqNo};

const MS: Duration = Duration::from_millis(1);
/// The second viewer's port; the first one's path is good.
pub(super) const GOOD: u16 = 1;
pub(super) const WEAK: u16 = 2;

/// The transport-wide number of a packet that has one.
pub(super) fn mark(packet: &RtpPacket) -> Option<SeqNo> {
    let bytes = packet.as_bytes();
    (bytes[0] & EXTENSION_BIT != 0).then(|| {
        assert_eq!(bytes[12..17], [0xbe, 0xde, 0, 1, 0x51]);
        SeqNo(u16::from_be_bytes([bytes[17], bytes[18]]))
    })
}

struct Weak {
    scene: Scene,
    viewer: ViewerId,
    counters: Arc<ViewerCounters>,
    /// Video as it came, in order.
    got: Vec<RtpPacket>,
    queue: Duration,
}

impl Weak {
    fn new() -> Self {
        let mut scene = Scene::new();
        scene.joins(GOOD, true);
        let (viewer, counters) = scene.joins(WEAK, true);
        Self { scene, viewer, counters, got: Vec::new(), queue: Duration::ZERO }
    }

    /// Sends a frame; what is marked arrives after a queue. Returns how many video packets each got.
    fn frame(&mut self, keyframe: bool) -> (usize, usize) {
        self.scene.frame(MediaKind::Video, 8, keyframe);
        let good = self.scene.received(GOOD).len();
        let packets = self.receive();
        (good, packets)
    }

    /// What came to the weak viewer: reported at once, although it arrives later.
    fn receive(&mut self) -> usize {
        let packets = self.scene.received(WEAK);
        let at = (self.scene.now + self.queue).duration_since(self.scene.start()).as_micros() as i64;
        let arrivals: Vec<_> = packets.iter().filter_map(mark).map(|number| (number, at)).collect();
        if !arrivals.is_empty() {
            self.scene.fanout.heard(self.viewer, &Heard::Arrivals(arrivals), self.scene.now);
        }
        let count = packets.iter().filter(|packet| packet.ssrc() == VIDEO).count();
        self.got.extend(packets.into_iter().filter(|packet| packet.ssrc() == VIDEO));
        count
    }

    /// A keyframe of 8 packets, to the end of its time. When each packet came to the weak viewer.
    fn slow_keyframe(&mut self) -> Vec<Duration> {
        let began = self.scene.now;
        let mut came = vec![Duration::ZERO; self.frame(true).1];
        while self.scene.now < began + Duration::from_millis(800) {
            self.scene.now += 10 * MS;
            self.scene.fanout.take_turns(self.scene.now, &mut self.scene.network);
            let count = self.receive();
            came.extend(vec![self.scene.now - began; count]);
        }
        came
    }

    fn becomes_thinned(&mut self) {
        for n in 0..50 {
            assert_eq!(self.frame(n == 0), (8, 8));
        }
        for n in 1..20 {
            self.queue = n * 40 * MS;
            if self.frame(false).1 == 0 {
                return;
            }
        }
        panic!("a queue of 800 ms is as it should be");
    }

    fn stats(&self) -> ViewerStats {
        ViewerStats::default().with(&self.counters, self.scene.now, SystemTime::now())
    }
}

#[test]
fn a_weak_viewer_gets_keyframes_and_sound_and_the_others_everything() {
    let mut w = Weak::new();
    w.becomes_thinned();
    let stats = w.stats();
    assert!(stats.thinned && stats.thinned_since.is_some());
    assert_eq!((stats.thinned_reason, stats.thinnings), (Some(ThinReason::Delay), 1));
    let before = w.got.last().unwrap().clone();
    for _ in 0..10 {
        assert_eq!(w.frame(false), (8, 0));
    }
    w.scene.frame(MediaKind::Audio, 1, false);
    assert_eq!(w.scene.received(WEAK)[0].ssrc(), AUDIO);
    w.scene.received(GOOD);
    let came = w.slow_keyframe();
    assert_eq!(came.len(), 8);
    assert!(came[7] > came[0] + 50 * MS, "no burst on a path that is full: {came:?}");
    assert_eq!(w.frame(false), (8, 0));
    assert!(consecutive(&seqs(&w.got)), "what is left out makes no hole");
    let (from, to) = (before.timestamp(), w.got.last().unwrap().timestamp());
    assert!(to.wrapping_sub(from) >= 11 * 3_600, "time goes on meanwhile");
}

#[test]
fn a_keyframe_that_comes_while_the_last_one_is_still_being_sent_is_left_out() {
    let mut w = Weak::new();
    w.becomes_thinned();
    assert_eq!(w.frame(true).0, 8);
    let came = w.slow_keyframe();
    assert_eq!(came.len(), 8, "the first one alone");
    assert_eq!(w.slow_keyframe().len(), 8);
    assert!(consecutive(&seqs(&w.got)));
}

#[test]
fn a_thinned_viewers_cries_for_a_picture_do_not_bring_it_the_whole_group() {
    let mut w = Weak::new();
    w.becomes_thinned();
    w.scene.now += Duration::from_secs(2);
    w.scene.fanout.restart_viewer(w.viewer, w.scene.now, &mut w.scene.network);
    assert_eq!(w.receive(), 0);
}

#[test]
fn a_probe_that_arrives_in_time_brings_everything_back_with_the_next_keyframe() {
    let mut w = Weak::new();
    w.becomes_thinned();
    w.queue = Duration::ZERO;
    let mut probe = Vec::new();
    for _ in 0..200 {
        w.scene.now += 10 * MS;
        w.scene.fanout.tick(w.scene.now, SystemTime::now(), &mut w.scene.network);
        w.scene.fanout.take_turns(w.scene.now, &mut w.scene.network);
        let datagrams = w.scene.network.delivered.get(&WEAK).map_or(0, Vec::len);
        probe.push(datagrams);
        w.scene.only_rtp(WEAK);
        w.receive();
        w.scene.only_rtp(GOOD);
        w.scene.received(GOOD);
        if w.scene.fanout.take_wanted() == [w.scene.stream] {
            break;
        }
    }
    assert!(probe.iter().sum::<usize>() > 10, "{probe:?}");
    assert!(w.stats().thinned, "until the keyframe comes");
    assert_eq!(w.frame(false), (8, 0));
    assert_eq!(w.frame(true), (8, 8));
    assert_eq!(w.frame(false), (8, 8));
    let stats = w.stats();
    assert_eq!((stats.thinned, stats.thinnings, stats.probes), (false, 1, 1));
    assert!(stats.thinned_seconds > 0.9, "{}", stats.thinned_seconds);
    assert!(consecutive(&seqs(&w.got)));
}

#[test]
fn a_probe_is_made_of_retransmissions_that_browsers_drop_as_known() {
    let mut w = Weak::new();
    w.becomes_thinned();
    let known: Vec<u16> = seqs(&w.got);
    let mut packets = Vec::new();
    for _ in 0..200 {
        w.scene.now += 10 * MS;
        w.scene.fanout.tick(w.scene.now, SystemTime::now(), &mut w.scene.network);
        w.scene.fanout.take_turns(w.scene.now, &mut w.scene.network);
        w.scene.only_rtp(WEAK);
        packets.extend(w.scene.received(WEAK));
    }
    assert!(packets.len() > 10);
    for packet in &packets {
        assert_eq!(packet.ssrc(), RTX);
        assert!(mark(packet).is_some());
        let original = u16::from_be_bytes(packet.payload()[..2].try_into().unwrap());
        assert!(known.contains(&original), "{original} was never sent");
    }
    // A second without an answer: the path is not believed to carry more, and the camera is left in peace.
    assert!(w.scene.fanout.take_wanted().is_empty());
}

#[test]
fn floods_of_one_viewer_leave_the_others_as_they_were() {
    let mut w = Weak::new();
    for n in 0..50 {
        w.frame(n == 0);
    }
    let lost: Vec<SeqNo> = w.got.iter().map(RtpPacket::seq).collect();
    for _ in 0..100 {
        w.scene.fanout.retransmit(w.viewer, VIDEO, &lost, w.scene.now, &mut w.scene.network);
        w.scene.fanout.restart_viewer(w.viewer, w.scene.now, &mut w.scene.network);
    }
    let resent = w.scene.received(WEAK).iter().filter(|packet| packet.ssrc() == RTX).count();
    assert!(resent < 150, "{resent} packets resent");
    for _ in 0..10 {
        assert_eq!(w.frame(false).0, 8);
    }
}

#[test]
fn the_first_picture_is_timed_from_the_offer() {
    let mut w = Weak::new();
    w.scene.frame(MediaKind::Audio, 1, false);
    w.scene.frame(MediaKind::Video, 1, false);
    w.scene.frame(MediaKind::Video, 1, true);
    let stats = w.stats();
    assert_eq!((stats.first_packet_ms, stats.first_keyframe_ms), (Some(70 + 40), Some(70 + 120)));
}
