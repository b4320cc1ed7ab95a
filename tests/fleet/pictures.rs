//! Which pictures a viewer could decode, by the structure of what it received alone.

use std::collections::{BTreeMap, BTreeSet};

use honeycast::media::rtp::RtpPacket;
use honeycast::sim::{Mark, SentPicture};

/// All video packets of one viewer, by sequence number. It waits for late ones as long as they need.
#[derive(Default)]
pub(crate) struct Pictures {
    packets: BTreeMap<u64, Packet>,
    highest: Option<u64>,
    /// Where each picture begins.
    begun: BTreeMap<u32, u64>,
    /// Numbers that came more than once, and pictures that came again under other numbers.
    pub(crate) twice: u64,
}

struct Packet {
    time: u32,
    marker: bool,
    /// Number of the picture that begins here.
    begins: Option<u32>,
    /// Holds a part of an IDR picture.
    idr: bool,
}

impl std::fmt::Debug for Pictures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} packets, {} twice", self.packets.len(), self.twice)
    }
}

impl Pictures {
    pub(crate) fn add(&mut self, packet: &RtpPacket) {
        let highest = self.highest.unwrap_or(1 << 20 | u64::from(packet.seq().0));
        let ahead = i64::from(packet.seq().0.wrapping_sub(highest as u16) as i16);
        let seq = highest.saturating_add_signed(ahead);
        self.highest = Some(highest.max(seq));
        let payload = packet.payload();
        let kept = Packet {
            time: packet.timestamp(),
            marker: packet.marker(),
            begins: Mark::in_video(&payload).map(|mark| mark.number),
            idr: nal_types(&payload).contains(&5),
        };
        if let Some(number) = kept.begins {
            self.twice += u64::from(*self.begun.entry(number).or_insert(seq) != seq);
        }
        self.twice += u64::from(self.packets.insert(seq, kept).is_some());
    }

    /// The first picture of which the beginning is there.
    pub(crate) fn first(&self) -> Option<u32> {
        self.packets.values().filter_map(|packet| packet.begins).min()
    }

    /// The pictures of which all is there, and whose references are there as well, from a keyframe on.
    pub(crate) fn decodable(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        for (first, packet) in &self.packets {
            let Some(number) = packet.begins else { continue };
            // Up to its marker, without a hole: the mark precedes the slice.
            let picture = (*first..).map_while(|seq| self.packets.get(&seq)).take_while(|p| p.time == packet.time);
            let (mut whole, mut idr) = (false, false);
            for part in picture {
                idr |= part.idr;
                whole = part.marker;
                if whole {
                    break;
                }
            }
            if whole && (idr || found.contains(&number.wrapping_sub(1))) {
                found.insert(number);
            }
        }
        found
    }
}

/// The pictures that what survived the camera's line allows to decode.
pub(crate) fn survivors(sent: &[SentPicture]) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for picture in sent {
        if picture.whole && (picture.keyframe || found.contains(&picture.number.wrapping_sub(1))) {
            found.insert(picture.number);
        }
    }
    found
}

/// Types of the NAL units in a payload (RFC 6184 §5.4); a fragment counts as what it is of.
fn nal_types(payload: &[u8]) -> Vec<u8> {
    match payload {
        [header, rest @ ..] if header & 0x1f == 24 => {
            let (mut types, mut rest) = (Vec::new(), rest);
            while let [high, low, nal, ..] = rest {
                types.push(nal & 0x1f);
                rest = rest.get(2 + usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or(&[]);
            }
            types
        }
        [header, fragment, ..] if header & 0x1f == 28 => vec![fragment & 0x1f],
        [header, ..] => vec![header & 0x1f],
        [] => Vec::new(),
    }
}
