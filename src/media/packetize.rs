//! Payloads made anew: what is too large for viewers in fragments, what is left of a faulty aggregate
//! (RFC 6184 §5.7.1, §5.8).

use bytes::{BufMut, Bytes, BytesMut};

use super::h264::{FU_END, FU_START, Fragment, NAL_FU_A, NAL_STAP_A, Payload};

/// Largest RTP payload in bytes that goes to viewers.
///
/// The smallest link that carries IPv6 has 1280 bytes (RFC 8200 §5), and tunnels leave little more on others. Of
/// these, IPv6 takes 40, UDP 8, the RTP header 12, the retransmission header 2 (RFC 4588 §4), and the SRTP tag
/// at most 16: 1202 bytes remain.
pub const MAX_PAYLOAD: usize = 1_200;

const INDICATOR_BITS: u8 = 0x60;
/// NRI bits of an aggregate that holds parameter sets: as important as can be.
const MOST_IMPORTANT: u8 = 0x60;

/// Cuts a payload larger than [`MAX_PAYLOAD`] into payloads that are not, in their order. What cannot be
/// read as H.264 gives nothing.
pub fn split(payload: &[u8]) -> Vec<Bytes> {
    let mut out = Vec::new();
    match Payload::parse(payload) {
        Ok(Payload::Single([header, body @ ..])) => {
            fragment(&Fragment { header: *header, start: true, end: true, body }, &mut out);
        }
        Ok(Payload::Fragment(part)) => fragment(&part, &mut out),
        Ok(Payload::Aggregate(units)) => {
            let units: Vec<&[u8]> = units.flatten().collect();
            pack(&units, &mut out);
        }
        Ok(Payload::Single([])) | Err(_) => {}
    }
    out
}

/// One payload that holds `units`: an aggregate, or the unit itself if it is the only one. `None` for nothing
/// and for what does not fit the 16-bit sizes of an aggregate.
pub fn aggregate(units: &[&[u8]]) -> Option<Bytes> {
    match units {
        [] => None,
        [unit] => Some(Bytes::copy_from_slice(unit)),
        _ => {
            let mut out = BytesMut::with_capacity(aggregate_len(units));
            // §5.7.1: the NRI of an aggregate is the highest of its units.
            let importance = units.iter().filter_map(|unit| unit.first()).map(|header| header & MOST_IMPORTANT).max();
            out.put_u8(importance.unwrap_or(0) | NAL_STAP_A);
            for unit in units {
                out.put_u16(u16::try_from(unit.len()).ok()?);
                out.put_slice(unit);
            }
            Some(out.freeze())
        }
    }
}

/// As many units into one payload as fit, in their order.
pub(super) fn pack(units: &[&[u8]], out: &mut Vec<Bytes>) {
    let mut rest = units;
    while let [first, ..] = rest {
        if let ([header, body @ ..], true) = (first, first.len() > MAX_PAYLOAD) {
            fragment(&Fragment { header: *header, start: true, end: true, body }, out);
            rest = &rest[1..];
            continue;
        }
        let fitting = (1..=rest.len()).take_while(|count| *count == 1 || aggregate_len(&rest[..*count]) <= MAX_PAYLOAD);
        let (together, others) = rest.split_at(fitting.last().unwrap_or(1));
        out.extend(aggregate(together));
        rest = others;
    }
}

fn aggregate_len(units: &[&[u8]]) -> usize {
    1 + units.iter().map(|unit| 2 + unit.len()).sum::<usize>()
}

/// Pieces of equal size rather than a small rest: datagrams of one size leave in one system call.
fn fragment(part: &Fragment<'_>, out: &mut Vec<Bytes>) {
    let count = part.body.len().div_ceil(MAX_PAYLOAD - 2).max(1);
    let size = part.body.len().div_ceil(count).max(1);
    // One allocation that all pieces share.
    let mut buffer = BytesMut::with_capacity(part.body.len() + 2 * count);
    for (n, piece) in part.body.chunks(size).enumerate() {
        let mut fu = part.header & 0x1f;
        if part.start && n == 0 {
            fu |= FU_START;
        }
        if part.end && (n + 1) * size >= part.body.len() {
            fu |= FU_END;
        }
        buffer.put_u8(part.header & INDICATOR_BITS | NAL_FU_A);
        buffer.put_u8(fu);
        buffer.put_slice(piece);
        out.push(buffer.split().freeze());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nal(header: u8, len: usize) -> Vec<u8> {
        (0..len).map(|n| if n == 0 { header } else { n as u8 }).collect()
    }

    #[test]
    fn a_large_unit_is_fragmented_and_put_together_is_itself() {
        for len in [MAX_PAYLOAD + 1, 1_460, 2 * MAX_PAYLOAD, 60_000] {
            let unit = nal(0x65, len);
            let out = split(&unit);
            assert!(out.len() > 1 && out.iter().all(|payload| payload.len() <= MAX_PAYLOAD && payload[0] == 0x7c));
            let flags: Vec<_> = out.iter().map(|payload| payload[1]).collect();
            assert_eq!((flags[0], flags[flags.len() - 1]), (0x85, 0x45));
            assert!(flags[1..flags.len() - 1].iter().all(|flags| *flags == 5));
            assert_eq!(out.iter().flat_map(|payload| payload[2..].to_vec()).collect::<Vec<_>>(), unit[1..]);
        }
    }

    #[test]
    fn pieces_of_a_fragment_keep_its_place_in_the_unit() {
        for (fu, expected) in [(0x85, [0x85, 5]), (5, [5, 5]), (0x45, [5, 0x45]), (0xc5, [0x85, 0x45])] {
            let out = split(&[&[0x7c, fu][..], &[9; 1_400]].concat());
            assert_eq!(out.iter().map(|payload| payload[1]).collect::<Vec<_>>(), expected);
            assert_eq!(out[0].len(), out[1].len());
        }
    }

    #[test]
    fn a_large_aggregate_becomes_smaller_ones_and_fragments() {
        let units = [nal(0x67, 20), nal(0x68, 5), nal(0x65, 1_500), nal(0x41, 700), nal(0x41, 700)];
        let parts: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
        let out = split(&aggregate(&parts).unwrap());
        assert_eq!(out.iter().map(|payload| payload[0] & 0x1f).collect::<Vec<_>>(), [24, 28, 28, 1, 1]);
        assert_eq!(out[0], aggregate(&parts[..2]).unwrap());
        assert!(out.iter().all(|payload| payload.len() <= MAX_PAYLOAD));
    }
}
