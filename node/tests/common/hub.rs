//! A small hub over HTTP on loopback that says what it is told to: the truth, or any lie.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const ID: &str = "Acme/Tiny-1B";

/// What a request asks.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) range: Option<(u64, Option<u64>)>,
    pub(crate) headers: String,
}

impl Asked {
    /// Whether it asks for bytes of the file at `path`.
    pub(crate) fn is_file(&self, path: &str) -> bool {
        self.path == format!("/{ID}/resolve/{COMMIT}/{path}")
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection is cut after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// The length that the head says, if not that of the body; `Some(None)` says none.
    pub(crate) says: Option<Option<u64>>,
    /// The body never ends.
    pub(crate) endless: bool,
    /// Bytes a second at which the body is sent.
    pub(crate) rate: Option<usize>,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
            says: None,
            endless: false,
            rate: None,
        }
    }

    pub(crate) fn json(value: impl Into<String>) -> Self {
        Self {
            body: value.into().into_bytes(),
            ..Self::status(200)
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// Makes another answer of the true one; it is given how often the same was asked before.
type Twist = Box<dyn FnMut(&Asked, usize, Reply) -> Reply + Send>;

pub(crate) struct State {
    pub(crate) files: BTreeMap<String, (Vec<u8>, bool)>,
    pub(crate) asked: Vec<Asked>,
    /// Bytes of files that were sent.
    pub(crate) sent: u64,
    twist: Option<Twist>,
}

/// The hub.
#[derive(Clone)]
pub(crate) struct Hub {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Hub {
    /// A hub with these files of one commit; `true` for those of the LFS class.
    pub(crate) async fn start(files: &[(&str, &[u8], bool)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let files = files.iter();
        let files = files.map(|(path, bytes, lfs)| ((*path).to_owned(), (bytes.to_vec(), *lfs)));
        let state = State {
            files: files.collect(),
            asked: Vec::new(),
            sent: 0,
            twist: None,
        };
        let hub = Self {
            address,
            state: Arc::new(Mutex::new(state)),
        };
        let serving = hub.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let hub = serving.clone();
                tokio::spawn(async move { hub.connection(stream).await });
            }
        });
        hub
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Answers otherwise from now on.
    pub(crate) fn twist(&self, twist: impl FnMut(&Asked, usize, Reply) -> Reply + Send + 'static) {
        self.state().twist = Some(Box::new(twist));
    }

    /// How often the file at `path` was asked for.
    pub(crate) fn asked_for(&self, path: &str) -> Vec<Asked> {
        let state = self.state();
        state
            .asked
            .iter()
            .filter(|asked| asked.is_file(path))
            .cloned()
            .collect()
    }

    async fn connection(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte).await {
                Ok(1) if head.len() < 64 << 10 => head.push(byte[0]),
                _ => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap_or_default();
        let range = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let value = value
                .strip_prefix("bytes=")
                .filter(|_| name.eq_ignore_ascii_case("range"))?;
            let (start, end) = value.split_once('-')?;
            Some((
                start.parse().ok()?,
                end.parse::<u64>().ok().map(|end| end + 1),
            ))
        });
        let asked = Asked {
            path: path.to_owned(),
            range,
            headers: head.clone(),
        };
        let (reply, is_file) = {
            let mut state = self.state();
            let before = state
                .asked
                .iter()
                .filter(|known| known.path == asked.path)
                .count();
            let truth = state.truth(&asked);
            let mut twist = state.twist.take();
            let reply = match &mut twist {
                Some(twist) => twist(&asked, before, truth),
                None => truth,
            };
            if state.twist.is_none() {
                state.twist = twist;
            }
            let is_file = asked.path.contains("/resolve/");
            state.asked.push(asked);
            (reply, is_file)
        };
        self.send(stream, reply, is_file).await;
    }

    async fn send(&self, mut stream: TcpStream, reply: Reply, is_file: bool) {
        let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", reply.status);
        match reply.says {
            None => head.push_str(&format!("content-length: {}\r\n", reply.body.len())),
            Some(Some(length)) => head.push_str(&format!("content-length: {length}\r\n")),
            Some(None) => {}
        }
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        let end = reply.cut.unwrap_or(usize::MAX).min(reply.body.len());
        for part in reply.body[..end].chunks(64 << 10) {
            if stream.write_all(part).await.is_err() {
                return;
            }
            if is_file {
                self.state().sent += part.len() as u64;
            }
            if let Some(rate) = reply.rate {
                let seconds = part.len() as f64 / rate as f64;
                tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            }
        }
        if reply.endless {
            while stream.write_all(&[b' '; 64 << 10]).await.is_ok() {}
        }
        stream.shutdown().await.ok();
    }
}

impl State {
    /// What an honest hub answers.
    fn truth(&self, asked: &Asked) -> Reply {
        let path = asked.path.split('?').next().unwrap_or_default();
        if let Some(rev) = path.strip_prefix(&format!("/api/models/{ID}/revision/")) {
            return match matches!(rev, "main" | COMMIT) {
                true => Reply::json(format!(
                    r#"{{"id":"{ID}","sha":"{COMMIT}","private":false,"gated":false}}"#
                )),
                false => Reply::status(404),
            };
        }
        if path == format!("/api/models/{ID}/tree/{COMMIT}") {
            return Reply::json(self.tree());
        }
        if path == format!("/api/models/{ID}/commits/{COMMIT}") {
            return Reply::json(format!(
                r#"[{{"id":"{COMMIT}","title":"t","date":"2026-11-22T23:47:04.000Z"}}]"#
            ));
        }
        let file = path.strip_prefix(&format!("/{ID}/resolve/{COMMIT}/"));
        let Some((bytes, _)) = file.and_then(|file| self.files.get(file)) else {
            return Reply::status(404);
        };
        let tag = format!(
            "\"{}\"",
            data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
        );
        let Some((start, end)) = asked.range else {
            return Reply {
                body: bytes.clone(),
                ..Reply::status(200)
            }
            .with("etag", tag);
        };
        let length = bytes.len() as u64;
        let end = end.unwrap_or(length).min(length);
        if start >= end {
            return Reply::status(416);
        }
        let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
        Reply {
            body: bytes[range].to_vec(),
            ..Reply::status(206)
        }
        .with("etag", tag)
        .with(
            "content-range",
            format!("bytes {start}-{}/{length}", end - 1),
        )
    }

    pub(crate) fn tree(&self) -> String {
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        let rows: Vec<String> = self
            .files
            .iter()
            .map(|(path, (bytes, lfs))| {
                let size = bytes.len();
                let git = Sha1::new_with_prefix(format!("blob {size}\0")).chain_update(bytes);
                let git = hex(&git.finalize());
                let lfs = match lfs {
                    true => format!(
                        r#","lfs":{{"oid":"{}","size":{size},"pointerSize":130}}"#,
                        hex(&Sha256::digest(bytes))
                    ),
                    false => String::new(),
                };
                format!(r#"{{"type":"file","path":"{path}","size":{size},"oid":"{git}"{lfs}}}"#)
            })
            .collect();
        format!("[{}]", rows.join(","))
    }
}
