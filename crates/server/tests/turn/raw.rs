//! Requests made by hand, for what the client's core does not do.

use std::net::SocketAddr;

use nilas_stun::{Class, Key, Message, MessageBuilder, Method, TransactionId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::support::{GUARD, PASSWORD, USER, frame};

enum Way {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// A client that asks one thing after the other.
pub(crate) struct Raw {
    way: Way,
    pending: Vec<u8>,
    auth: Option<(Key, String, String)>,
    number: u64,
}

impl Raw {
    pub(crate) async fn udp(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((server.ip(), 0)).await.unwrap();
        socket.connect(server).await.unwrap();
        Self::new(Way::Udp(socket))
    }

    pub(crate) async fn tcp(server: SocketAddr) -> Self {
        Self::new(Way::Tcp(TcpStream::connect(server).await.unwrap()))
    }

    fn new(way: Way) -> Self {
        Self {
            way,
            pending: Vec::new(),
            auth: None,
            number: 0,
        }
    }

    /// Asks, authenticates if that is wanted, and hands over the answer.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        write: impl Fn(&mut MessageBuilder<'_>),
    ) -> Vec<u8> {
        for _ in 0..3 {
            self.number += 1;
            let mut id = *b"raw.........";
            id[4..].copy_from_slice(&self.number.to_be_bytes());
            let id = TransactionId::new(id);
            let mut buffer = [0; 1_000];
            let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, id).unwrap();
            write(&mut builder);
            if let Some((key, realm, nonce)) = &self.auth {
                builder.username(USER).unwrap();
                builder.realm(realm).unwrap().nonce(nonce).unwrap();
                builder.message_integrity(key).unwrap();
            }
            let length = builder.finish();
            self.send(&buffer[..length]).await;
            let answer = loop {
                let message = self.message().await;
                if Message::parse(&message).is_ok_and(|answer| answer.transaction_id() == id) {
                    break message;
                }
            };
            let parsed = Message::parse(&answer).unwrap();
            let code = parsed.error_code().unwrap().map(|error| error.code());
            if !matches!(code, Some(401 | 438)) {
                if let Some((key, ..)) = &self.auth {
                    parsed.authenticate(key).expect("an authentic answer");
                }
                return answer;
            }
            let realm = parsed.realm().unwrap().unwrap().to_owned();
            let nonce = parsed.nonce().unwrap().unwrap().to_owned();
            let key = Key::long_term_md5(USER, &realm, PASSWORD).unwrap();
            self.auth = Some((key, realm, nonce));
        }
        panic!("not let in");
    }

    /// As [`ask`](Self::ask), and the answer is a success.
    pub(crate) async fn succeed(
        &mut self,
        method: Method,
        write: impl Fn(&mut MessageBuilder<'_>),
    ) -> Vec<u8> {
        let answer = self.ask(method, write).await;
        let parsed = Message::parse(&answer).unwrap();
        assert_eq!(
            parsed.class(),
            Class::SuccessResponse,
            "{method:?} {:?}",
            parsed.error_code()
        );
        answer
    }

    pub(crate) async fn allocate(
        &mut self,
        protocol: u8,
        write: impl Fn(&mut MessageBuilder<'_>),
    ) -> (SocketAddr, Vec<u8>) {
        let answer = self
            .succeed(Method::ALLOCATE, |builder| {
                builder.requested_transport(protocol).unwrap();
                write(builder);
            })
            .await;
        let parsed = Message::parse(&answer).unwrap();
        let relayed = parsed.xor_relayed_address().unwrap().unwrap();
        (relayed, answer)
    }

    /// The next message, whatever it is.
    pub(crate) async fn message(&mut self) -> Vec<u8> {
        let read = async {
            loop {
                if let Some(length) = frame(&self.pending) {
                    return self.pending.drain(..length).collect();
                }
                let mut buffer = [0; 2_000];
                let length = match &mut self.way {
                    Way::Udp(socket) => socket.recv(&mut buffer).await.unwrap(),
                    Way::Tcp(stream) => stream.read(&mut buffer).await.unwrap(),
                };
                assert!(length > 0, "the server closed the connection");
                self.pending.extend_from_slice(&buffer[..length]);
            }
        };
        timeout(GUARD, read).await.expect("a message")
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        match &mut self.way {
            Way::Udp(socket) => {
                socket.send(bytes).await.unwrap();
            }
            Way::Tcp(stream) => stream.write_all(bytes).await.unwrap(),
        }
    }

    /// The stream, and what was read of it already.
    pub(crate) fn into_stream(self) -> (TcpStream, Vec<u8>) {
        match self.way {
            Way::Tcp(stream) => (stream, self.pending),
            Way::Udp(_) => panic!("not a stream"),
        }
    }
}
