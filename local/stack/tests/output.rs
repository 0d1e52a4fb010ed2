//! A command whose output nobody reads any more.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

#[test]
fn a_command_whose_reader_leaves_ends_quietly() {
    let lambda = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_stack"))
        .args(["invoke", "maintainer", "list-blocks"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .env("AWS_ENDPOINT_URL_LAMBDA", format!("http://{}", lambda.local_addr().unwrap()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    // It has something to print only now.
    let (mut call, _) = lambda.accept().unwrap();
    assert!(call.read(&mut [0; 4096]).unwrap() > 0);
    call.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"blocks\":[]}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(141), "that of a program that SIGPIPE ended");
}
