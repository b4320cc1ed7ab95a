//! What became of the pictures on the line, as the camera itself knows it: for tests that compare it with what
//! arrived elsewhere.

use std::collections::VecDeque;
use std::time::Instant;

use crate::media::SeqNo;

/// Pictures remembered: 40 s of them at 25 a second.
const PICTURES: usize = 1_024;

/// A picture that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentPicture {
    /// Its [`Mark`](super::Mark)'s number.
    pub number: u32,
    /// The number that is drawn into it: its place in the clip.
    pub frame: usize,
    /// Decoding can start here.
    pub keyframe: bool,
    /// All its packets got past the faults of the line, the first time or when they were sent again.
    pub whole: bool,
    /// When the first of them did.
    pub sent: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Record {
    pictures: VecDeque<Kept>,
    /// Of the pictures that are forgotten.
    past: Decodable,
}

/// Pictures that can be decoded, by what got through: whole, and so are all since the last keyframe.
#[derive(Debug, Clone, Copy, Default)]
struct Decodable {
    count: u64,
    /// The last picture is one of them.
    last: bool,
}

impl Decodable {
    fn and(self, next: &Kept) -> Self {
        let last = next.is_whole() && (next.keyframe || self.last);
        Self { count: self.count + u64::from(last), last }
    }
}

#[derive(Debug)]
struct Kept {
    number: u32,
    frame: usize,
    keyframe: bool,
    sent: Option<Instant>,
    first: SeqNo,
    /// Of each packet, whether it got through.
    passed: Vec<bool>,
}

impl Kept {
    fn is_whole(&self) -> bool {
        self.passed.iter().all(|passed| *passed)
    }
}

impl Record {
    /// A picture of so many packets, numbered from `first` on, is about to be sent.
    pub(super) fn sends(&mut self, number: u32, frame: usize, keyframe: bool, first: SeqNo, packets: usize) {
        if self.pictures.len() == PICTURES
            && let Some(oldest) = self.pictures.pop_front()
        {
            self.past = self.past.and(&oldest);
        }
        self.pictures.push_back(Kept { number, frame, keyframe, sent: None, first, passed: vec![false; packets] });
    }

    /// This packet got through. The newest picture with its number is meant: older ones cannot be sent again.
    pub(super) fn passed(&mut self, now: Instant, seq: SeqNo) {
        let place = |kept: &Kept| usize::from(seq.0.wrapping_sub(kept.first.0));
        if let Some(kept) = self.pictures.iter_mut().rev().find(|kept| place(kept) < kept.passed.len()) {
            let place = place(kept);
            kept.passed[place] = true;
            kept.sent.get_or_insert(now);
        }
    }

    /// The pictures, the oldest first.
    pub(super) fn pictures(&self) -> Vec<SentPicture> {
        let sent = |kept: &Kept| SentPicture {
            number: kept.number,
            frame: kept.frame,
            keyframe: kept.keyframe,
            whole: kept.is_whole(),
            sent: kept.sent,
        };
        self.pictures.iter().map(sent).collect()
    }

    /// How many pictures of all that were sent a viewer can decode, by what got through up to now.
    pub(super) fn decodable(&self) -> u64 {
        self.pictures.iter().fold(self.past, Decodable::and).count
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_picture_is_whole_when_all_its_packets_got_through_at_last() {
        let (mut record, start) = (Record::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        record.sends(7, 199, true, SeqNo(u16::MAX), 2);
        record.sends(8, 0, false, SeqNo(1), 1);
        assert!(record.pictures().iter().all(|p| p.sent.is_none()));
        record.passed(at(1), SeqNo(u16::MAX));
        record.passed(at(2), SeqNo(1));
        let whole = |record: &Record| record.pictures().iter().map(|p| (p.number, p.whole)).collect::<Vec<_>>();
        assert_eq!(whole(&record), [(7, false), (8, true)]);
        record.passed(at(3), SeqNo(0));
        record.passed(at(4), SeqNo(9));
        assert_eq!(whole(&record), [(7, true), (8, true)]);
        let sent = record.pictures().iter().map(|p| (p.frame, p.sent)).collect::<Vec<_>>();
        assert_eq!(sent, [(199, Some(at(1))), (0, Some(at(2)))]);
    }

    #[test]
    fn a_picture_can_be_decoded_when_it_and_all_before_it_since_the_keyframe_are_whole() {
        let (mut record, start) = (Record::default(), Instant::now());
        // Every fourth is a keyframe; the sixth is lost until it is sent again.
        for n in 0..2_000u16 {
            record.sends(u32::from(n), 0, n % 4 == 0, SeqNo(n), 1);
            if n % 8 != 5 {
                record.passed(start, SeqNo(n));
            }
        }
        assert_eq!(record.decodable(), 2_000 / 8 * 5);
        record.passed(start, SeqNo(1_997));
        assert_eq!(record.decodable(), 2_000 / 8 * 5 + 3);
    }

    #[test]
    fn old_pictures_are_forgotten() {
        let mut record = Record::default();
        (0..2_000u32).for_each(|n| record.sends(n, 0, false, SeqNo(n as u16), 1));
        assert_eq!((record.pictures().len(), record.pictures()[0].number), (PICTURES, 976));
    }
}
