//! A running stream: pictures, sound and reports when they are due.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rand::Rng;

use super::camera::Outbox;
use super::clip::{Quality, TONE_INTERVAL, sound};
use super::faults::{Port, Transmit};
use super::mark::Mark;
use super::play::{Destination, Target};
use super::settings::{RtcpSending, SimSettings};
use super::track::Track;
use crate::base::time::ntp64;
use crate::base::{CameraId, StreamId};
use crate::media::{Codec, SeqNo, Ssrc};

/// Packets that leave together, and the pause until the next group: a large keyframe does not come as one burst.
const GROUP: usize = 10;
const GROUP_PAUSE: Duration = Duration::from_millis(1);
/// Video packets that can be sent again.
const RING: usize = 512;
/// What is later than this (the process was stopped for a while) is left out instead of sent at once.
const MAX_LATE: Duration = Duration::from_millis(500);
/// When the first reports are sent, and the time between them from then on.
const FIRST_RTCP: Duration = Duration::from_millis(500);
const RTCP_INTERVAL: Duration = Duration::from_secs(1);
/// How soon numbers that are near their end come to it.
const WRAP_PACKETS: u16 = 100;
const WRAP_TIME: Duration = Duration::from_secs(3);

/// Numbers of the next marks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Marks {
    pictures: u32,
    sounds: u32,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) target: Target,
    pub(super) started: Instant,
    video: Track,
    /// None: the camera sends no sound.
    audio: Option<Track>,
    camera: CameraId,
    /// Numbers of the marks of the first picture and the first sound.
    first_marks: Marks,
    frame_interval: Duration,
    /// When sound begins, from the picture's beginning.
    sound_after: Duration,
    /// Pictures and sounds so far, left out ones included: they tell the media time.
    pictures: u32,
    sounds: u32,
    /// Number of the next picture in the clip.
    number: usize,
    quality: Quality,
    wanted: Quality,
    best: Quality,
    /// Jump to the next keyframe.
    hurry: bool,
    paced: VecDeque<(Instant, SeqNo, Transmit)>,
    ring: VecDeque<(SeqNo, Bytes)>,
    rtcp: RtcpSending,
    rtcp_received: bool,
    reports: u32,
    pub(super) last_keepalive: Option<Instant>,
    next_keepalive: u64,
}

impl Stream {
    pub(super) fn new(
        now: Instant,
        id: StreamId,
        target: Target,
        settings: &SimSettings,
        first_marks: Marks,
        rng: &mut impl Rng,
    ) -> Self {
        let (ways, faults) = (&settings.behaviour, &settings.faults);
        let mut video = Track::new(target.video.ssrc, Codec::H264, rng);
        let mut audio = ways.audio.map(|codec| Track::new(target.audio.ssrc, codec, rng));
        if faults.near_wrap {
            [Some(&mut video), audio.as_mut()]
                .into_iter()
                .flatten()
                .for_each(|t| t.wrap_after(WRAP_PACKETS, WRAP_TIME));
        }
        let best = if ways.small_picture { Quality::Sd } else { Quality::Hd };
        Self {
            id,
            target,
            started: now,
            video,
            audio,
            camera: settings.camera,
            first_marks,
            frame_interval: Duration::from_secs(1) / ways.frame_rate.clamp(1, 60),
            sound_after: faults.audio_after,
            pictures: 0,
            sounds: 0,
            number: 0,
            quality: best,
            wanted: best,
            best,
            hurry: false,
            paced: VecDeque::new(),
            ring: VecDeque::new(),
            rtcp: ways.rtcp,
            rtcp_received: false,
            reports: 0,
            last_keepalive: None,
            next_keepalive: 0,
        }
    }

    /// The SSRC that the video has at present.
    pub(super) fn video_ssrc(&self) -> Ssrc {
        self.video.ssrc
    }

    /// Goes on as other sources.
    pub(super) fn change_source(&mut self, rng: &mut impl Rng) {
        self.video.change_source(rng);
        if let Some(audio) = &mut self.audio {
            audio.change_source(rng);
        }
        self.ring.clear();
    }

    /// Its sound goes on in the other codec.
    pub(super) fn switch_sound(&mut self, rng: &mut impl Rng) {
        if let Some(audio) = &mut self.audio {
            let other = if audio.codec == Codec::Opus { Codec::Pcmu } else { Codec::Opus };
            audio.switch(other, rng);
        }
    }

    /// Where the marks of the next stream begin.
    pub(super) fn next_marks(&self) -> Marks {
        let Marks { pictures, sounds } = self.first_marks;
        Marks { pictures: pictures.wrapping_add(self.pictures), sounds: sounds.wrapping_add(self.sounds) }
    }

    /// Goes on to other addresses or sources.
    pub(super) fn retarget(&mut self, target: Target) {
        self.video.ssrc = target.video.ssrc;
        if let Some(audio) = &mut self.audio {
            audio.ssrc = target.audio.ssrc;
        }
        self.target = target;
    }

    /// Which version is sent.
    pub(super) fn quality(&self) -> Quality {
        self.quality
    }

    /// Number of the last picture sent.
    pub(super) fn shown(&self) -> Option<usize> {
        let loop_len = self.quality.clip().len();
        (self.pictures > 0).then(|| (self.number + loop_len - 1) % loop_len)
    }

    /// Returns how many keepalives are missing before this one.
    pub(super) fn on_keepalive(&mut self, now: Instant, count: u64) -> u64 {
        let missing = count.saturating_sub(self.next_keepalive);
        self.next_keepalive = count.saturating_add(1);
        self.last_keepalive = Some(now);
        missing
    }

    /// RTCP has arrived, whatever it says.
    pub(super) fn on_rtcp(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.rtcp_received, true) && self.rtcp == RtcpSending::AfterReceived {
            // Reports begin now, not with all that were held back.
            let late = now.saturating_duration_since(self.started + FIRST_RTCP);
            self.reports = late.as_millis().div_ceil(RTCP_INTERVAL.as_millis()) as u32;
        }
    }

    /// Follows an estimate of what the way to the server can carry, at the next keyframe.
    pub(super) fn follow(&mut self, bitrate: u64) {
        let needed = Quality::Hd.clip().bitrate();
        if bitrate < needed {
            self.wanted = Quality::Sd;
        } else if bitrate >= needed * 12 / 10 {
            // The distance keeps an estimate near the border from switching all the time.
            self.wanted = self.best;
        }
    }

    /// Sends a keyframe next.
    pub(super) fn hurry(&mut self) {
        self.hurry = true;
    }

    /// Sends packets again, as far as they are still known.
    pub(super) fn resend(&self, now: Instant, lost: &[SeqNo], out: &mut Outbox) {
        let Some((first, _)) = self.ring.front() else { return };
        for seq in lost {
            // Numbers in the ring follow each other.
            let at = usize::from(seq.0.wrapping_sub(first.0));
            if let Some((_, bytes)) = self.ring.get(at) {
                out.resent(now, *seq, Transmit { from: Port::Video, to: self.target.video.rtp, bytes: bytes.clone() });
            }
        }
    }

    /// When [`Self::advance`] has something to do.
    pub(super) fn deadline(&self) -> Instant {
        let paced = self.paced.front().map(|(at, ..)| *at);
        let audio = self.audio.is_some().then(|| self.sound_due());
        let times = [Some(self.picture_due()), paced, audio, self.report_due()];
        times.into_iter().flatten().min().unwrap_or(self.started)
    }

    /// Does all that is due; `wall` is the wall clock at `now`.
    pub(super) fn advance(&mut self, now: Instant, wall: SystemTime, out: &mut Outbox) {
        while self.picture_due() <= now {
            if now <= self.picture_due() + MAX_LATE {
                self.picture(out);
            }
            self.pictures += 1;
        }
        while self.sound_due() <= now {
            if now <= self.sound_due() + MAX_LATE {
                self.sound(now, out);
            }
            self.sounds += 1;
        }
        while self.paced.front().is_some_and(|(at, ..)| *at <= now) {
            if let Some((_, seq, packet)) = self.paced.pop_front() {
                out.video(now, seq, packet);
            }
        }
        while self.report_due().is_some_and(|at| at <= now) {
            if self.report_due().is_some_and(|at| now <= at + MAX_LATE) {
                self.report(now, wall, out);
            }
            self.reports += 1;
        }
    }

    fn picture_due(&self) -> Instant {
        self.started + self.frame_interval * self.pictures
    }

    fn sound_due(&self) -> Instant {
        self.started + self.sound_after + TONE_INTERVAL * self.sounds
    }

    fn report_due(&self) -> Option<Instant> {
        let sends = match self.rtcp {
            RtcpSending::None => false,
            RtcpSending::AfterReceived => self.rtcp_received,
            RtcpSending::OwnPort | RtcpSending::SameAsRtp | RtcpSending::OwnPortEach => true,
        };
        sends.then(|| self.started + FIRST_RTCP + RTCP_INTERVAL * self.reports)
    }

    /// Puts the packets of the next picture into the queue.
    fn picture(&mut self, out: &mut Outbox) {
        if std::mem::take(&mut self.hurry) {
            self.number = self.quality.clip().next_keyframe(self.number);
        }
        // Both versions have their keyframes at the same numbers.
        if self.wanted != self.quality && self.wanted.clip().unit(self.number).keyframe {
            self.quality = self.wanted;
        }
        let (due, elapsed) = (self.picture_due(), self.frame_interval * self.pictures);
        let clip = self.quality.clip();
        let Some((first, others)) = clip.unit(self.number).payloads.split_first() else { return };
        let mark = Mark { camera: self.camera, number: self.next_marks().pictures };
        let marked = mark.before(first);
        let count = marked.len() + others.len();
        let keyframe = clip.unit(self.number).keyframe;
        out.record.sends(mark.number, self.number, keyframe, self.video.next_seq(), count);
        for (at, payload) in marked.iter().chain(others).enumerate() {
            let (seq, bytes) = self.video.packet(elapsed, at + 1 == count, payload);
            if self.ring.len() == RING {
                self.ring.pop_front();
            }
            self.ring.push_back((seq, bytes.clone()));
            let packet = Transmit { from: Port::Video, to: self.target.video.rtp, bytes };
            self.paced.push_back((due + GROUP_PAUSE * (at / GROUP) as u32, seq, packet));
        }
        self.number = (self.number + 1) % clip.len();
    }

    fn sound(&mut self, now: Instant, out: &mut Outbox) {
        let elapsed = self.sound_after + TONE_INTERVAL * self.sounds;
        let mark = Mark { camera: self.camera, number: self.next_marks().sounds };
        if let Some(audio) = &mut self.audio {
            let payload = mark.on_sound(audio.codec, sound(audio.codec, self.sounds));
            // The marker begins a talk spurt (RFC 3551 §4.1); this one never pauses.
            let (_, bytes) = audio.packet(elapsed, self.sounds == 0, &payload);
            out.audio(now, Transmit { from: Port::Audio, to: self.target.audio.rtp, bytes });
        }
    }

    fn report(&self, now: Instant, wall: SystemTime, out: &mut Outbox) {
        let (elapsed, ntp) = (now.saturating_duration_since(self.started), ntp64(wall));
        let mut send = |track: &Track, rtp_port: Port, Destination { rtcp, .. }: Destination| {
            let from = match (self.rtcp, rtp_port) {
                (RtcpSending::SameAsRtp, port) => port,
                (RtcpSending::OwnPortEach, Port::Audio) => Port::AudioRtcp,
                _ => Port::Rtcp,
            };
            let bytes = track.sender_report(elapsed, ntp, &self.target.cname);
            out.rtcp(Transmit { from, to: rtcp, bytes });
        };
        send(&self.video, Port::Video, self.target.video);
        if let Some(audio) = &self.audio {
            send(audio, Port::Audio, self.target.audio);
        }
    }
}
