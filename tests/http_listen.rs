//! Listening: several addresses, Unix sockets and their files, inherited sockets.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod http_support;

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use http_support::{Server, get};
use sconce::http::{Address, Config, Error, Inherited, Kept, Listen, Listeners};
use tokio::net::{TcpStream, UnixStream};

fn on(listen: &[&str]) -> Config {
    Config { listen: listen.iter().map(|text| text.parse().unwrap()).collect(), ..Config::default() }
}

fn unix(path: &Path, mode: &str) -> Config {
    Config {
        listen: vec![Listen::Unix(path.to_owned())],
        unix_socket_mode: mode.to_owned(),
        ..Config::default()
    }
}

async fn start(config: Config) -> Server {
    let listeners = Listeners::bind(&config).await.unwrap();
    Server::serve(listeners, config, None)
}

#[tokio::test(flavor = "multi_thread")]
async fn several_listeners_serve_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let unix = format!("unix:{}", path.display());
    let server = start(on(&["127.0.0.1:0", "localhost:0", &unix])).await;
    assert_eq!(server.addresses.len(), 3);

    for address in &server.addresses {
        let answer = match address {
            Address::Tcp { address, tls } => {
                assert!(!tls);
                assert_ne!(address.port(), 0);
                get(&mut TcpStream::connect(address).await.unwrap(), "/peer").await
            }
            Address::Unix(path) => get(&mut UnixStream::connect(path).await.unwrap(), "/peer").await,
        };
        let expected = match address {
            Address::Tcp { .. } => "Tcp { address: ".to_owned(),
            Address::Unix(_) => format!("uid: {}", rustix::process::getuid().as_raw()),
        };
        assert!(answer.contains(&expected), "{answer}");
    }
    let tcp = server.tcp();
    assert_eq!(server.addresses[0].to_string(), format!("http://{tcp}"));
    assert_eq!(server.addresses[2].to_string(), unix);
    assert_eq!(Address::Tcp { address: tcp, tls: true }.to_string(), format!("https://{tcp}"));
    server.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn an_address_in_use_and_an_unknown_host_are_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = Listeners::bind(&on(&[&address])).await.unwrap_err();
    assert!(error.to_string().contains(&address), "{error}");

    let error = Listeners::bind(&on(&["no-such-host.invalid:80"])).await.unwrap_err();
    assert!(error.to_string().contains("no-such-host.invalid:80: no such host"), "{error}");
}

#[tokio::test]
async fn a_unix_socket_has_the_mode_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    for mode in ["0600", "660", "0666"] {
        let path = directory.path().join(mode);
        let listeners = Listeners::bind(&unix(&path, mode)).await.unwrap();
        let found = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(found, u32::from_str_radix(mode, 8).unwrap());
        drop(listeners);
        assert!(!path.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_servers_socket_is_replaced_and_a_live_ones_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let stale = path.metadata().unwrap().ino();

    let server = start(unix(&path, "0600")).await;
    assert!(path.exists());
    let error = Listeners::bind(&unix(&path, "0600")).await.unwrap_err();
    assert!(matches!(error, Error::Live { .. }), "{error}");
    assert!(error.to_string().contains("another server answers there"), "{error}");
    assert!(get(&mut UnixStream::connect(&path).await.unwrap(), "/").await.ends_with("hello"), "was {stale}");
    server.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn what_is_not_a_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    let error = Listeners::bind(&unix(&path, "0600")).await.unwrap_err();
    assert!(matches!(error, Error::NotASocket { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"data");

    let error = Listeners::bind(&unix(&directory.path().join("none/socket"), "0600")).await.unwrap_err();
    assert!(error.to_string().contains("No such file or directory"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_another_server_has_taken_over_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let server = start(unix(&path, "0600")).await;
    std::fs::rename(&path, directory.path().join("moved")).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    server.stop().await;
    assert!(path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn inherited_sockets_are_served_and_their_files_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let inherited = [
        Inherited::Tcp(std::net::TcpListener::bind("127.0.0.1:0").unwrap()),
        Inherited::Unix(std::os::unix::net::UnixListener::bind(&path).unwrap()),
    ];
    let listeners = Listeners::from_std(inherited.map(|socket| (socket, false))).unwrap();
    let server = Server::serve(listeners, Config::default(), None);
    assert!(get(&mut server.connect().await, "/").await.ends_with("hello"));
    assert!(get(&mut UnixStream::connect(&path).await.unwrap(), "/").await.ends_with("hello"));
    server.stop().await;
    assert!(path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_goes_on_with_the_sockets_that_were_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let unix = format!("unix:{}", path.display());
    let mut listeners = Listeners::bind(&on(&["127.0.0.1:0", &unix])).await.unwrap();
    let Address::Tcp { address, .. } = listeners.addresses()[0] else {
        panic!("{:?}", listeners.addresses())
    };
    let kept: Vec<Kept> = listeners
        .opened()
        .map(|(listen, socket)| {
            let socket = socket.try_clone_to_owned().unwrap();
            let socket = match listen {
                Listen::Tcp(_) => Inherited::Tcp(socket.into()),
                Listen::Unix(_) => Inherited::Unix(socket.into()),
            };
            Kept { listen: listen.clone(), socket }
        })
        .collect();
    listeners.leave_files();
    drop(listeners);
    // Between the two nobody accepts, and nobody is refused.
    let (mut tcp, mut local) =
        (TcpStream::connect(address).await.unwrap(), UnixStream::connect(&path).await.unwrap());

    let config = Config { unix_socket_mode: "0600".to_owned(), ..on(&["127.0.0.1:0", &unix]) };
    let listeners = Listeners::resume(&config, kept).await.unwrap();
    assert_eq!(listeners.addresses()[0], Address::Tcp { address, tls: false }, "port 0 stays where it was");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let server = Server::serve(listeners, config, None);
    assert!(get(&mut tcp, "/").await.ends_with("hello"));
    assert!(get(&mut local, "/").await.ends_with("hello"));
    server.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn what_was_kept_for_another_address_is_closed_and_opened_anew() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = other.local_addr().unwrap();
    let kept = Kept { listen: Listen::Tcp("127.0.0.1:0".to_owned()), socket: Inherited::Tcp(other) };
    let listeners = Listeners::resume(&on(&["[::1]:0"]), vec![kept]).await.unwrap();
    assert!(matches!(listeners.addresses(), [Address::Tcp { address, .. }] if address.is_ipv6()));
    assert!(std::net::TcpStream::connect(at).is_err(), "it was closed");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let lost = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let kept = Kept { listen: Listen::Unix(path.clone()), socket: Inherited::Unix(lost) };
    let _listeners = Listeners::resume(&unix(&path, "0600"), vec![kept]).await.unwrap();
    assert!(UnixStream::connect(&path).await.is_ok(), "a socket without a file cannot be reached");
}
