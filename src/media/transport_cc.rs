//! Transport-wide feedback: when packets arrived, by the receiver's clock
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).

use super::id::SeqNo;
use super::rtcp::RtcpError;

/// Units of the reference time and of a delta, in microseconds.
const REFERENCE_UNIT: i64 = 64_000;
const DELTA_UNIT: i64 = 250;
/// The arrival clock starts over after this many microseconds: 24 bits of 64 ms.
const CLOCK_PERIOD: i64 = REFERENCE_UNIT << 24;
/// Statuses taken from one feedback. Browsers send several a second, so that thousands are made up.
pub const MAX_STATUSES: u16 = 4_096;

const HEADER_LEN: usize = 8;
const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;

/// One feedback packet; its length was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportFeedback<'a> {
    base: SeqNo,
    count: u16,
    reference: i64,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

/// Microseconds from one arrival time to another, across the wrap of the receiver's clock.
pub fn elapsed_us(from: i64, to: i64) -> i64 {
    (to - from + CLOCK_PERIOD / 2).rem_euclid(CLOCK_PERIOD) - CLOCK_PERIOD / 2
}

impl<'a> TransportFeedback<'a> {
    /// `body` is what follows the two SSRCs.
    pub(super) fn new(body: &'a [u8]) -> Result<Self, RtcpError> {
        let (header, rest) = body.split_first_chunk::<HEADER_LEN>().ok_or(RtcpError::Length)?;
        let count = u16::from_be_bytes([header[2], header[3]]);
        if count > MAX_STATUSES {
            return Err(RtcpError::Length);
        }
        // Sign-extends the 24-bit field.
        let reference = i64::from(i32::from_be_bytes([header[4], header[5], header[6], 0]) >> 8) * REFERENCE_UNIT;
        let (mut statuses, mut chunks, mut deltas) = (usize::from(count), 0, 0);
        while statuses > 0 {
            let chunk = chunk_at(rest, chunks).ok_or(RtcpError::Length)?;
            let taken = chunk.len().min(statuses);
            deltas += (0..taken).map(|index| delta_len(chunk.status(index))).sum::<usize>();
            statuses -= taken;
            chunks += 1;
        }
        let (chunks, rest) = rest.split_at_checked(2 * chunks).ok_or(RtcpError::Length)?;
        let deltas = rest.get(..deltas).ok_or(RtcpError::Length)?;
        Ok(Self { base: SeqNo(u16::from_be_bytes([header[0], header[1]])), count, reference, chunks, deltas })
    }

    /// The packets that arrived, by their transport-wide numbers, with their arrival times in microseconds
    /// of a clock that starts anywhere and over again; see [`elapsed_us`].
    pub fn arrivals(&self) -> impl Iterator<Item = (SeqNo, i64)> + 'a {
        let Self { base, count, reference, chunks, mut deltas } = *self;
        let statuses = (0..chunks.len() / 2).filter_map(move |at| chunk_at(chunks, at));
        let statuses = statuses.flat_map(|chunk| (0..chunk.len()).map(move |index| chunk.status(index)));
        let mut time = reference;
        statuses.take(usize::from(count)).enumerate().filter_map(move |(index, status)| {
            let (delta, rest) = deltas.split_at_checked(delta_len(status))?;
            deltas = rest;
            time += DELTA_UNIT
                * match delta {
                    [] => return None,
                    [small] => i64::from(*small),
                    [high, low, ..] => i64::from(i16::from_be_bytes([*high, *low])),
                };
            Some((SeqNo(base.0.wrapping_add(index as u16)), time))
        })
    }
}

/// A packet status chunk (§3.1.2 to §3.1.4).
#[derive(Clone, Copy)]
struct Chunk(u16);

fn chunk_at(chunks: &[u8], at: usize) -> Option<Chunk> {
    let bytes = chunks.get(2 * at..2 * at + 2)?;
    Some(Chunk(u16::from_be_bytes([bytes[0], bytes[1]])))
}

impl Chunk {
    fn len(self) -> usize {
        match self.0 >> 14 {
            0 | 1 => usize::from(self.0 & 0x1fff),
            2 => 14,
            _ => 7,
        }
    }

    fn status(self, index: usize) -> u8 {
        (match self.0 >> 14 {
            0 | 1 => self.0 >> 13 & 3,
            2 => self.0 >> 13_usize.saturating_sub(index) & 1,
            _ => self.0 >> 12_usize.saturating_sub(2 * index) & 3,
        }) as u8
    }
}

fn delta_len(status: u8) -> usize {
    match status {
        SMALL_DELTA => 1,
        LARGE_DELTA => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feedback(base: u16, count: u16, reference: u32, rest: &[u8]) -> Vec<u8> {
        let mut body = [base.to_be_bytes(), count.to_be_bytes()].concat();
        body.extend_from_slice(&reference.to_be_bytes()[1..]);
        body.push(7);
        body.extend_from_slice(rest);
        body
    }

    fn arrivals(body: &[u8]) -> Vec<(u16, i64)> {
        TransportFeedback::new(body).unwrap().arrivals().map(|(seq, time)| (seq.0, time)).collect()
    }

    #[test]
    fn all_kinds_of_chunks_are_read() {
        // A run of two small deltas, a vector of one-bit and one of two-bit statuses.
        let chunks = [0x20, 0x02, 0xa0, 0x00, 0xc0 | 0x24, 0x00];
        let body = feedback(65_534, 18, 2, &[&chunks[..], &[4, 8, 1, 0xff, 0xfc, 0]].concat());
        let start = 2 * REFERENCE_UNIT;
        assert_eq!(
            arrivals(&body),
            [
                (65_534, start + 1_000),
                (65_535, start + 3_000),
                (0, start + 3_250),
                (14, start + 2_250),
                (15, start + 2_250)
            ]
            .map(|(seq, time): (u16, i64)| (seq, time))
        );
    }

    #[test]
    fn a_packet_that_did_not_arrive_has_no_time() {
        assert_eq!(arrivals(&feedback(10, 3, 0, &[0x00, 0x03])), []);
        assert_eq!(arrivals(&feedback(10, 2, 0xff_ffff, &[0xa0, 0x00, 0])), [(10, -REFERENCE_UNIT)]);
    }

    #[test]
    fn what_is_cut_short_or_made_up_is_refused() {
        for body in [
            feedback(1, 3, 0, &[]),
            feedback(1, 3, 0, &[0x20, 0x03, 1, 2]),
            feedback(1, MAX_STATUSES + 1, 0, &[0x1f, 0xff]),
            vec![0; 7],
        ] {
            assert_eq!(TransportFeedback::new(&body), Err(RtcpError::Length), "{body:?}");
        }
        // A run of no statuses must not stop the walk for ever.
        assert_eq!(TransportFeedback::new(&feedback(1, 1, 0, &[0; 6])), Err(RtcpError::Length));
    }

    #[test]
    fn the_receivers_clock_may_wrap() {
        let last = ((1_i64 << 23) - 1) * REFERENCE_UNIT;
        assert_eq!(elapsed_us(last, -(1_i64 << 23) * REFERENCE_UNIT), REFERENCE_UNIT);
        assert_eq!(elapsed_us(5_000, 2_000), -3_000);
    }
}
