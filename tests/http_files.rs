//! No file descriptors left. Alone in its process, because the limit is the process's.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod http_support;

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http_support::{Server, get, read_until, send, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{net::TcpSocket, time::sleep};
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

struct Warnings(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if *event.metadata().level() <= tracing::Level::WARN {
            self.0.fetch_add(1, SeqCst);
        }
    }
}

/// What this process has used of the processor. The file is opened while that is still possible.
struct Cpu(File);

impl Cpu {
    fn used(&self) -> Duration {
        let mut stat = [0; 1024];
        let length = self.0.read_at(&mut stat, 0).unwrap();
        let stat = std::str::from_utf8(&stat[..length]).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn running_out_of_files_is_waited_out() {
    let warnings = Arc::new(AtomicUsize::new(0));
    tracing_subscriber::registry().with(Warnings(Arc::clone(&warnings))).init();
    let server = Server::start(|_| {}).await;
    let cpu = Cpu(File::open("/proc/self/stat").unwrap());

    // The clients' own sockets are opened first: only the server is to run out.
    let sockets: Vec<_> = (0..60).map(|_| TcpSocket::new_v4().unwrap()).collect();
    let open = u64::try_from(std::fs::read_dir("/proc/self/fd").unwrap().count()).unwrap();
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(open + 10), ..limits }).unwrap();
    let mut clients = Vec::new();
    for socket in sockets {
        let mut client = socket.connect(server.tcp()).await.unwrap();
        // Busy, so that it cannot be asked for its place.
        send(&mut client, "GET /endless-ticks HTTP/1.1\r\nhost: test\r\n\r\n").await;
        clients.push(client);
    }
    until("a warning", || warnings.load(SeqCst) > 0).await;
    assert!(server.connections.count() < clients.len());

    let (before, warned) = (cpu.used(), warnings.load(SeqCst));
    sleep(Duration::from_secs(3)).await;
    let (used, warned) = (cpu.used() - before, warnings.load(SeqCst) - warned);
    println!("3 s without files: {used:?} of the processor, {warned} warnings");
    assert!(used < Duration::from_secs(1), "{used:?}");
    assert!((1..=4).contains(&warned), "{warned}");

    // Those that were accepted are served all along, and one that leaves makes room for the next.
    read_until(clients.first_mut().unwrap(), "tick").await;
    clients.truncate(2);
    let mut client = server.connect().await;
    assert!(get(&mut client, "/").await.ends_with("hello"));
    drop((client, clients));
    server.wait_for_connections(0).await;
    server.stop().await;
}
