//! A compound RTCP packet of a camera or a viewer; what we can write ourselves must read back the same.

use honeycast::media::rtcp::{ReportBlock, RtcpBlock, RtcpWriter, blocks};
use honeycast::media::transport_cc::{MAX_STATUSES, elapsed_us};
use honeycast::media::{SeqNo, Ssrc};

const SENDER: Ssrc = Ssrc(1);
/// As many as the server takes of one packet.
const MAX_NACKED: usize = 1024;

/// Whether `data` is a compound of well-formed blocks.
pub(crate) fn run(data: &[u8]) -> bool {
    let mut walk = blocks(data);
    let mut count = 0;
    for block in walk.by_ref() {
        let Ok(block) = block else { break };
        count += 1;
        check(&block);
    }
    assert!(count <= data.len() / 4, "a block has at least a header");
    assert!(walk.next().is_none(), "an error ends the walk");
    count > 0 && blocks(data).all(|block| block.is_ok())
}

fn check(block: &RtcpBlock<'_>) {
    let mut writer = RtcpWriter::new();
    match block {
        RtcpBlock::SenderReport(info, reports) => {
            assert!(reports.iter().count() <= 31);
            let bytes = written(writer.sender_report(info));
            assert!(matches!(read(&bytes), RtcpBlock::SenderReport(again, _) if again == *info));
        }
        RtcpBlock::ReceiverReport(sender, reports) => {
            let reports: Vec<ReportBlock> = reports.iter().collect();
            let bytes = written(writer.receiver_report(*sender, &reports));
            let RtcpBlock::ReceiverReport(from, again) = read(&bytes) else { panic!("{bytes:?}") };
            assert_eq!((from, again.iter().collect::<Vec<_>>()), (*sender, reports));
        }
        RtcpBlock::Bye(sources) => {
            for source in sources.iter() {
                let bytes = written(writer.bye(source));
                assert!(matches!(read(&bytes), RtcpBlock::Bye(again) if again.iter().eq([source])));
                writer = RtcpWriter::new();
            }
        }
        RtcpBlock::Pli { media } => {
            let bytes = written(writer.pli(SENDER, *media));
            assert_eq!(read(&bytes), *block);
        }
        RtcpBlock::Fir(entries) => {
            for (media, command) in entries.iter() {
                let bytes = written(writer.fir(SENDER, media, command));
                assert!(matches!(read(&bytes), RtcpBlock::Fir(again) if again.iter().eq([(media, command)])));
                writer = RtcpWriter::new();
            }
        }
        RtcpBlock::Nack { media, lost } => {
            let lost: Vec<SeqNo> = lost.iter().take(MAX_NACKED).collect();
            let bytes = written(writer.nack(SENDER, *media, &lost));
            let RtcpBlock::Nack { media: again, lost: list } = read(&bytes) else { panic!("{bytes:?}") };
            assert_eq!((again, sorted(list.iter())), (*media, sorted(lost.into_iter())));
        }
        RtcpBlock::Arrivals(feedback) => {
            let arrivals: Vec<(SeqNo, i64)> = feedback.arrivals().collect();
            assert!(arrivals.len() <= usize::from(MAX_STATUSES));
            for pair in arrivals.windows(2) {
                let step = elapsed_us(pair[0].1, pair[1].1);
                assert!(pair[0].0 != pair[1].0 && (-9_000_000..9_000_000).contains(&step), "{pair:?}");
            }
        }
        RtcpBlock::Remb { bitrate, sources } => {
            let source = sources.iter().next().unwrap_or(SENDER);
            let bytes = written(writer.remb(SENDER, *bitrate, source));
            let RtcpBlock::Remb { bitrate: again, sources } = read(&bytes) else { panic!("{bytes:?}") };
            assert!(sources.iter().eq([source]));
            // What no 64 bits hold was read as the highest rate, which has more than 18 digits.
            assert!(again == *bitrate || *bitrate == u64::MAX, "{again} {bitrate}");
        }
        _ => {}
    }
}

fn written(writer: &mut RtcpWriter) -> Vec<u8> {
    std::mem::take(writer).finish()
}

/// The one block of what was written.
fn read(bytes: &[u8]) -> RtcpBlock<'_> {
    let mut walk = blocks(bytes);
    let block = walk.next().expect("a block was written").expect("what is written reads back");
    assert!(walk.next().is_none());
    block
}

fn sorted(seqs: impl Iterator<Item = SeqNo>) -> Vec<u16> {
    let mut all: Vec<u16> = seqs.map(|seq| seq.0).collect();
    all.sort_unstable();
    all.dedup();
    all
}
