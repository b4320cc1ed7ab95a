//! The smallest broker: does what real ones do only on bad days.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What to do with a client.
#[derive(Clone, Copy)]
pub(crate) enum Mood {
    /// Acknowledge only messages whose topic contains this.
    AcknowledgeOnly(&'static str),
    /// Refuse every subscription.
    RefuseSubscriptions,
    /// Do not answer subscriptions.
    IgnoreSubscriptions,
}

/// Serves one connection; the task ends with it. Returns the port.
pub(crate) async fn serve_one(mood: Mood) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(mood, stream).await;
    });
    (port, task)
}

async fn serve(mood: Mood, mut stream: TcpStream) {
    loop {
        let Ok(head) = stream.read_u8().await else { return };
        let mut length = 0_usize;
        for shift in [0, 7, 14, 21] {
            let byte = stream.read_u8().await.unwrap();
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let answer = match (head >> 4, mood) {
            // CONNECT
            (1, _) => vec![0x20, 2, 0, 0],
            // PUBLISH with QoS 1: the topic, then the packet identifier.
            (3, mood) => {
                let end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                let topic = std::str::from_utf8(&body[2..end]).unwrap();
                match mood {
                    Mood::AcknowledgeOnly(part) if !topic.contains(part) => Vec::new(),
                    _ => vec![0x40, 2, body[end], body[end + 1]],
                }
            }
            (8, Mood::IgnoreSubscriptions) => Vec::new(),
            // SUBSCRIBE: one code for each filter.
            (8, mood) => {
                let code = if matches!(mood, Mood::RefuseSubscriptions) { 0x80 } else { 1 };
                let filters = count_filters(&body[2..]);
                let mut answer = vec![0x90, 2 + u8::try_from(filters).unwrap(), body[0], body[1]];
                answer.resize(4 + filters, code);
                answer
            }
            // DISCONNECT
            (14, _) => return,
            (other, _) => panic!("unexpected packet type {other}"),
        };
        stream.write_all(&answer).await.unwrap();
    }
}

fn count_filters(mut rest: &[u8]) -> usize {
    let mut filters = 0;
    while let [high, low, tail @ ..] = rest {
        // The filter, then one byte with its QoS.
        rest = &tail[usize::from(u16::from_be_bytes([*high, *low])) + 1..];
        filters += 1;
    }
    filters
}
