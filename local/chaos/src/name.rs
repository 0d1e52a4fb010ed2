//! A name that leads to a server, as one of DNS does: who connects gets to where it points now, and who is connected stays
//! where it is. A proxy of noxious closes all connections when it is pointed elsewhere.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use services::free_port;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A port that stays the same. Dropping it ends its listener, and what is connected stays.
pub struct Name {
    pub port: u16,
    target: Arc<AtomicU16>,
    listener: JoinHandle<()>,
}

impl Name {
    /// A name for a port of the loopback interface, on which nothing has to listen yet.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(target: u16) -> io::Result<Self> {
        let port = free_port()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let target = Arc::new(AtomicU16::new(target));
        let pointed = Arc::clone(&target);
        let listener = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let target = pointed.load(Ordering::Relaxed);
                tokio::spawn(async move {
                    // A server that is not there is for the client to notice: its connection ends.
                    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Ok(Name { port, target, listener })
    }

    pub fn point_to(&self, target: u16) {
        self.target.store(target, Ordering::Relaxed);
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server that says its number to each byte.
    async fn server(number: u8) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while stream.read_u8().await.is_ok() {
                        stream.write_u8(number).await.unwrap();
                    }
                });
            }
        });
        port
    }

    async fn ask(stream: &mut TcpStream) -> u8 {
        stream.write_u8(0).await.unwrap();
        stream.read_u8().await.unwrap()
    }

    #[tokio::test]
    async fn who_is_connected_stays_and_who_connects_goes_elsewhere() {
        let name = Name::start(server(1).await).await.unwrap();
        let mut old = TcpStream::connect((Ipv4Addr::LOCALHOST, name.port)).await.unwrap();
        assert_eq!(ask(&mut old).await, 1);
        name.point_to(server(2).await);
        let mut new = TcpStream::connect((Ipv4Addr::LOCALHOST, name.port)).await.unwrap();
        assert_eq!((ask(&mut old).await, ask(&mut new).await), (1, 2));
    }
}
