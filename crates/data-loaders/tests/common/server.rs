//! A web server for one test: on the loopback interface, handwritten over `TcpListener`, with the faults that a test
//! needs.
#![allow(dead_code, reason = "each test uses some of it")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Writes a raw response.
pub(crate) type Raw = Arc<dyn Fn(&Request, &mut TcpStream) -> std::io::Result<()> + Send + Sync>;

/// A served file, with its faults.
#[derive(Clone, Default)]
pub(crate) struct Page {
    pub(crate) body: Vec<u8>,
    /// Entity tag.
    pub(crate) etag: Option<&'static str>,
    /// Whether range requests are answered with partial content.
    pub(crate) ranges: bool,
    /// For each response in turn: the number of body bytes after which the connection is closed.
    pub(crate) cuts: Vec<usize>,
    /// For each response in turn: a status instead of the file.
    pub(crate) statuses: Vec<&'static str>,
    /// Redirect target.
    pub(crate) redirect: Option<String>,
    pub(crate) kind: Option<&'static str>,
    /// Replaces all of the above.
    pub(crate) raw: Option<Raw>,
}

impl Page {
    pub(crate) fn raw(
        respond: impl Fn(&Request, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self { raw: Some(Arc::new(respond)), ..Self::default() }
    }
}

/// A request: path and headers, with lower-case names.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
}

impl Request {
    /// The first byte of the requested range.
    pub(crate) fn start(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

pub(crate) struct Server {
    pub(crate) url: String,
    pages: Arc<Mutex<HashMap<String, Page>>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) fn new<'a>(pages: impl IntoIterator<Item = (&'a str, Page)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let pages: HashMap<_, _> = pages.into_iter().map(|(name, page)| (format!("/{name}"), page)).collect();
        let server = Self { url, pages: Arc::new(Mutex::new(pages)), requests: Arc::default() };
        let (pages, requests) = (Arc::clone(&server.pages), Arc::clone(&server.requests));
        // The threads end with the test process; one per connection, because some responses never end.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (pages, requests) = (Arc::clone(&pages), Arc::clone(&requests));
                // A client that has disconnected is not a server error.
                std::thread::spawn(move || respond(&mut stream.unwrap(), &pages, &requests));
            }
        });
        server
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Changes a page.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Page)) {
        change(self.pages.lock().unwrap().get_mut(&format!("/{name}")).unwrap());
    }
}

fn respond(
    stream: &mut TcpStream,
    pages: &Mutex<HashMap<String, Page>>,
    requests: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let request = Request { path: path.clone(), headers: headers.clone() };
    requests.lock().unwrap().push(request.clone());
    let (page, cut, status) = {
        let mut pages = pages.lock().unwrap();
        let Some(page) = pages.get_mut(&path) else {
            return write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        };
        let next = |list: &mut Vec<usize>| if list.is_empty() { None } else { Some(list.remove(0)) };
        let cut = next(&mut page.cuts);
        let status = if page.statuses.is_empty() { None } else { Some(page.statuses.remove(0)) };
        (page.clone(), cut, status)
    };
    if let Some(raw) = &page.raw {
        return raw(&request, stream);
    }
    if let Some(status) = status {
        return write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    if let Some(place) = &page.redirect {
        let head = format!(
            "HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        return stream.write_all(head.as_bytes());
    }
    let start = request.start();
    let fresh = headers.get("if-range").is_none_or(|tag| page.etag == Some(tag));
    let total = page.body.len();
    let (status, body) = match start.filter(|_| page.ranges && fresh) {
        Some(start) if start >= total => ("416 Range Not Satisfiable", &page.body[total..]),
        Some(start) => ("206 Partial Content", &page.body[start..]),
        None => ("200 OK", &page.body[..]),
    };
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    match start.filter(|_| status != "200 OK") {
        Some(start) if start >= total => head += &format!("Content-Range: bytes */{total}\r\n"),
        Some(start) => head += &format!("Content-Range: bytes {start}-{}/{total}\r\n", total - 1),
        None => {}
    }
    for (name, value) in [("ETag", page.etag), ("Content-Type", page.kind)] {
        head += &value.map_or_else(String::new, |value| format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(&body[..cut.unwrap_or(body.len()).min(body.len())])?;
    stream.flush()
}
