//! As much of an LDAP server as PostgreSQL's authentication needs: it answers the simple bind request (RFC 4511, 4.2).

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

/// Tags of BER.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const BIND_REQUEST: u8 = 0x60;
const BIND_RESPONSE: u8 = 0x61;
const SIMPLE_PASSWORD: u8 = 0x80;

const SUCCESS: u8 = 0;
const INVALID_CREDENTIALS: u8 = 49;

/// Serves in a thread for as long as the process lives, as the tests of one server have a runtime each. `knows` says whether
/// the password of that name is right. Returns the port.
pub fn serve(knows: impl Fn(&str, &str) -> bool + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // PostgreSQL reports a connection that ends as a refused login, and the test shows it.
            if let Err(error) = stream.and_then(|stream| serve_connection(stream, &knows)) {
                eprintln!("a connection to the LDAP stub ended: {error}");
            }
        }
    });
    port
}

fn serve_connection(mut stream: TcpStream, knows: &impl Fn(&str, &str) -> bool) -> io::Result<()> {
    while let Some((SEQUENCE, message)) = read(&mut stream)? {
        let mut message = message.as_slice();
        let (_, id) = require(read(&mut message)?)?;
        // What follows the bind is the request that ends the connection, which has no answer.
        let (BIND_REQUEST, request) = require(read(&mut message)?)? else { return Ok(()) };
        let mut request = request.as_slice();
        let _version = require(read(&mut request)?)?;
        let (_, name) = require(read(&mut request)?)?;
        let (SIMPLE_PASSWORD, password) = require(read(&mut request)?)? else { return Err(malformed()) };
        let is_known = knows(&text(name)?, &text(password)?);
        let result = if is_known { SUCCESS } else { INVALID_CREDENTIALS };
        let response = [element(ENUMERATED, &[result]), element(OCTETS, b""), element(OCTETS, b"")].concat();
        let message = [element(INTEGER, &id), element(BIND_RESPONSE, &response)].concat();
        stream.write_all(&element(SEQUENCE, &message))?;
    }
    Ok(())
}

/// The next element: its tag and content. `None` at the end.
fn read(from: &mut impl io::Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut tag = [0];
    if from.read(&mut tag)? == 0 {
        return Ok(None);
    }
    let mut first = [0];
    from.read_exact(&mut first)?;
    let length = match first[0] {
        short @ ..0x80 => usize::from(short),
        long => {
            let mut bytes = vec![0; usize::from(long & 0x7f)];
            from.read_exact(&mut bytes)?;
            bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
        }
    };
    let mut content = Vec::new();
    from.take(length as u64).read_to_end(&mut content)?;
    if content.len() == length { Ok(Some((tag[0], content))) } else { Err(malformed()) }
}

/// An element with less than 128 bytes.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).ok().filter(|length| *length < 0x80).unwrap();
    [&[tag, length], content].concat()
}

fn require<T>(read: Option<T>) -> io::Result<T> {
    read.ok_or_else(malformed)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| malformed())
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a simple bind request")
}
