//! Access units become RTP payloads, packetization-mode 1 (RFC 6184 §5.6–§5.8).

use bytes::Bytes;

/// Largest payload in bytes: an Ethernet frame with room for tunnels, as cameras do it.
pub(super) const MAX_PAYLOAD: usize = 1200;

const SPS: u8 = 7;
const PPS: u8 = 8;
/// NAL unit type of an aggregate.
pub(super) const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

/// The payloads of one access unit in their order. Parameter sets travel together (STAP-A), what is
/// larger than [`MAX_PAYLOAD`] in fragments (FU-A), all else alone.
pub(super) fn payloads(nals: &[&'static [u8]]) -> Vec<Bytes> {
    let is_parameters = |nal: &&&'static [u8]| matches!(nal.first().map(|header| header & 0x1f), Some(SPS | PPS));
    let parameters: Vec<&[u8]> = nals.iter().take_while(is_parameters).copied().collect();
    let aggregate_len = 1 + parameters.iter().map(|nal| 2 + nal.len()).sum::<usize>();
    let mut out = Vec::new();
    let mut rest = nals;
    if parameters.len() > 1 && aggregate_len <= MAX_PAYLOAD {
        out.push(aggregate(&parameters));
        rest = &nals[parameters.len()..];
    }
    for nal in rest {
        match nal {
            [] => {}
            nal if nal.len() <= MAX_PAYLOAD => out.push(Bytes::from_static(nal)),
            [header, body @ ..] => fragment(*header, body, &mut out),
        }
    }
    out
}

fn aggregate(nals: &[&[u8]]) -> Bytes {
    // The importance is that of the most important unit; parameter sets are as important as can be.
    let mut out = vec![0x60 | STAP_A];
    for nal in nals {
        // The sum was checked against MAX_PAYLOAD.
        out.extend_from_slice(&(nal.len() as u16).to_be_bytes());
        out.extend_from_slice(nal);
    }
    out.into()
}

fn fragment(header: u8, body: &[u8], out: &mut Vec<Bytes>) {
    // Equal sizes rather than a small rest: what is lost is as likely to be any of them.
    let count = body.len().div_ceil(MAX_PAYLOAD - 2);
    let size = body.len().div_ceil(count);
    for (at, part) in body.chunks(size).enumerate() {
        let mut fu_header = header & 0x1f;
        if at == 0 {
            fu_header |= FU_START;
        }
        if (at + 1) * size >= body.len() {
            fu_header |= FU_END;
        }
        let mut payload = Vec::with_capacity(2 + part.len());
        payload.extend_from_slice(&[(header & 0xe0) | FU_A, fu_header]);
        payload.extend_from_slice(part);
        out.push(payload.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sets_share_a_packet_and_small_units_stand_alone() {
        let out = payloads(&[&[0x67, 1], &[0x68, 2, 3], &[0x65, 4]]);
        assert_eq!(out, [&[0x78, 0, 2, 0x67, 1, 0, 3, 0x68, 2, 3][..], &[0x65, 4]]);
    }

    #[test]
    fn fragments_put_together_are_the_unit() {
        for len in [MAX_PAYLOAD + 1, 2 * MAX_PAYLOAD, 30_000] {
            let nal: &'static [u8] = (0..len).map(|n| if n == 0 { 0x65 } else { n as u8 }).collect::<Vec<_>>().leak();
            let out = payloads(&[nal]);
            assert!(out.iter().all(|payload| payload.len() <= MAX_PAYLOAD && payload[0] == 0x7c));
            let marks: Vec<_> = out.iter().map(|payload| payload[1] & 0xc0).collect();
            assert_eq!((marks[0], marks[marks.len() - 1]), (FU_START, FU_END));
            assert!(marks[1..marks.len() - 1].iter().all(|mark| *mark == 0));
            let body: Vec<u8> = out.iter().flat_map(|payload| payload[2..].to_vec()).collect();
            assert_eq!(body, nal[1..]);
        }
    }
}
