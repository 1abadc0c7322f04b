//! How a peer is asked: over its QUIC connection, or over the LAN path. Both carry the same bytes.

use futures_lite::future;
use iroh::endpoint::{Connection, ReadError, RecvStream};

use crate::sync::{
    lan::{
        client::{Got, LanConnection, LanLink},
        wire::Status,
    },
    request::BlobRequest,
};

/// A way to ask a peer. Clones share it.
#[derive(Debug, Clone)]
pub(super) enum Link {
    /// A connection of `/iroh-bytes/4`.
    Quic(Connection),
    /// TCP connections.
    Lan(LanLink),
}

/// Why an answer gives no more bytes.
#[derive(Debug)]
pub(super) enum Ended {
    /// It ended in good order.
    Finished,
    /// The peer gave it up.
    Reset,
    /// The connection is gone.
    Lost(String),
}

impl Link {
    /// Sends a request; or why the link is gone.
    pub(super) async fn ask(&self, request: &BlobRequest) -> Result<Reader, String> {
        match self {
            Self::Quic(connection) => {
                let opened = connection.open_bi().await;
                let (mut send, recv) = opened.map_err(|error| error.to_string())?;
                send.write_chunk(request.encode().into())
                    .await
                    .map_err(|error| error.to_string())?;
                send.finish().ok();
                Ok(Reader::Quic(recv))
            }
            Self::Lan(link) => {
                let (link, connection) = link.ask(request).await?;
                Ok(Reader::Lan(link, Box::new(connection)))
            }
        }
    }

    /// Waits until it is gone; returns why.
    pub(super) async fn closed(&self) -> String {
        match self {
            Self::Quic(connection) => connection.closed().await.to_string(),
            Self::Lan(link) => link.broken().await,
        }
    }
}

/// An answer as it comes.
#[derive(Debug)]
pub(super) enum Reader {
    /// On a stream of its own.
    Quic(RecvStream),
    /// On a TCP connection, which goes back to its link at the end.
    Lan(LanLink, Box<LanConnection>),
}

impl Reader {
    /// Reads some bytes into `out`, which is not empty.
    pub(super) async fn read(&mut self, out: &mut [u8]) -> Result<usize, Ended> {
        match self {
            Self::Quic(recv) => match recv.read(out).await {
                Ok(Some(read)) => Ok(read),
                Ok(None) => Err(Ended::Finished),
                Err(ReadError::Reset(_)) => Err(Ended::Reset),
                Err(error) => Err(Ended::Lost(error.to_string())),
            },
            Self::Lan(link, connection) => match connection.read(out).await {
                Ok(Got::Bytes(read)) => Ok(read),
                Ok(Got::End(Status::Complete | Status::Absent)) => Err(Ended::Finished),
                Ok(Got::End(Status::Broken)) => Err(Ended::Reset),
                Err(error) => Err(Ended::Lost(link.broke(error.to_string()))),
            },
        }
    }

    /// Reads until `out` is full.
    pub(super) async fn read_exact(&mut self, out: &mut [u8]) -> Result<(), Ended> {
        let mut filled = 0;
        while filled < out.len() {
            filled += self.read(&mut out[filled..]).await?;
        }
        Ok(())
    }

    /// Ends it. Of one that is `complete` the peer is waited for to say so.
    pub(super) async fn stop(self, complete: bool) {
        match self {
            Self::Quic(mut recv) => {
                // The end of a whole answer mostly came along with it: then there is nothing to say.
                let ended = complete && {
                    let mut one = [0];
                    let read = future::poll_once(recv.read(&mut one)).await;
                    matches!(read, Some(Ok(None)))
                };
                if !ended {
                    recv.stop(0u32.into()).ok();
                }
            }
            Self::Lan(link, mut connection) => {
                // What is left of an answer would stand before the next: such a connection is not kept.
                if connection.has_ended() || (complete && connection.ends_here().await) {
                    link.keep(*connection);
                }
            }
        }
    }
}
