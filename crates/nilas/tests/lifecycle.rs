//! What lives how long: handles, agents, sockets, the driver's task.

mod common;

use std::net::UdpSocket;
use std::time::Duration;

use common::{Two, config, deliver, event, is_state, receive, soon};
use nilas::ice::Stats;
use nilas::{Agent, Endpoint, Error, GatheringState, Role, State};

/// Waits until nobody holds the address any more.
async fn is_free(address: std::net::SocketAddr) {
    soon("the socket to close", async {
        while UdpSocket::bind(address).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_last_handle_dropped_closes_the_sockets() {
    let agent = Agent::new(config(Role::Controlling)).await.unwrap();
    soon("gathering", agent.ticket()).await.unwrap();
    let address = agent.local_candidates()[0].ip_address().unwrap();
    let (sender, connection) = (agent.sender(), agent.connection().unwrap());
    let mut events = agent.events();
    drop((agent, connection));
    assert!(
        UdpSocket::bind(address).is_err(),
        "a sender keeps the session open"
    );
    drop(sender);
    event(&mut events, "the end", is_state(State::Closed)).await;
    assert!(soon("the end of the events", events.next()).await.is_none());
    is_free(address).await;
}

#[tokio::test]
async fn closing_ends_every_handle() {
    let two = Two::new().await;
    two.exchange();
    let (a, _b) = two.connect().await;
    let mut sender = a.sender();
    let address = a.selected_pair().unwrap().base;
    sender.send(b"x").await.unwrap();
    soon("closing", a.close()).await;
    assert_eq!(two.a.state(), State::Closed);
    // The socket is closed although a handle that has sent on it is still there.
    is_free(address).await;
    assert!(matches!(sender.send(b"x").await, Err(Error::Closed)));
    assert!(matches!(two.a.restart().await, Err(Error::Closed)));
    assert!(matches!(two.a.stats().await, Err(Error::Closed)));
    assert!(matches!(two.a.connect().await, Err(Error::Closed)));
    assert!(
        soon("the end of the signals", two.a.next_signal())
            .await
            .is_none()
    );

    // ICE has no farewell: the peer sees the silence, and says so.
    let mut events = two.b.events();
    event(
        &mut events,
        "the peer to notice",
        is_state(State::Disconnected),
    )
    .await;
}

#[tokio::test]
async fn receiving_from_a_closed_session_ends_after_what_was_received() {
    let a = Agent::new(config(Role::Controlling)).await.unwrap();
    let b = Agent::new(config(Role::Controlled)).await.unwrap();
    let (from_a, from_b) = (a.ticket().await.unwrap(), b.ticket().await.unwrap());
    a.accept(&from_b).await.unwrap();
    b.accept(&from_a).await.unwrap();
    let (mut to_close, mut peer) = soon("connecting", async {
        tokio::try_join!(a.connect(), b.connect())
    })
    .await
    .unwrap();
    deliver(&mut peer, &mut to_close, "one").await;
    peer.send(b"two").await.unwrap();
    soon("the second datagram", async {
        while received(&a).await < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    soon("closing", a.close()).await;
    assert_eq!(receive(&mut to_close).await, "two");
    let after = soon("the end", to_close.recv(&mut [0; 10])).await;
    assert!(matches!(after, Err(Error::Closed)), "{after:?}");
}

async fn received(agent: &Agent) -> u64 {
    let packets = |stats: &Stats| match stats {
        Stats::Transport(transport) => Some(transport.packets_received),
        _ => None,
    };
    agent
        .stats()
        .await
        .unwrap()
        .iter()
        .find_map(packets)
        .unwrap()
}

#[tokio::test]
async fn one_connection_at_a_time() {
    let agent = Agent::new(config(Role::Controlling)).await.unwrap();
    let first = agent.connection().unwrap();
    assert!(matches!(agent.connection(), Err(Error::ConnectionTaken)));
    drop(first);
    agent.connection().unwrap();
}

#[tokio::test]
async fn agents_share_an_endpoint_and_end_one_by_one() {
    let endpoint = Endpoint::new().unwrap();
    let two = Two {
        a: endpoint
            .agent(config(Role::Controlling))
            .await
            .unwrap()
            .into(),
        b: endpoint
            .agent(config(Role::Controlled))
            .await
            .unwrap()
            .into(),
    };
    let idle = endpoint.agent(config(Role::Controlled)).await.unwrap();
    two.exchange();
    let (mut a, mut b) = two.connect().await;
    deliver(&mut a, &mut b, "in one engine").await;
    soon("closing", idle.close()).await;
    deliver(&mut b, &mut a, "still there").await;

    let stranger = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let target = two
        .a
        .local_candidates()
        .iter()
        .find_map(|candidate| candidate.ip_address().filter(|a| a.is_ipv4()));
    stranger.send_to(b"not yours", target.unwrap()).unwrap();
    soon("the counter", async {
        while endpoint.counters().await.unwrap().unknown_remote == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[test]
fn handles_outlive_their_runtime_without_hanging() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (agent, mut connection) = runtime.block_on(async {
        let agent = Agent::new(config(Role::Controlling)).await.unwrap();
        let connection = agent.connection().unwrap();
        (agent, connection)
    });
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    other.block_on(async {
        assert!(matches!(
            soon("connect", agent.connect()).await,
            Err(Error::Closed)
        ));
        assert!(matches!(
            soon("recv", connection.recv(&mut [0; 10])).await,
            Err(Error::Closed)
        ));
        assert!(matches!(
            soon("restart", agent.restart()).await,
            Err(Error::Closed)
        ));
        soon("close", agent.close()).await;
    });
}

#[tokio::test]
async fn an_agent_of_a_pool_has_its_candidates_before_it_is_taken() {
    let endpoint = Endpoint::new().unwrap();
    let mut pool = endpoint.pool(config(Role::Controlled), 1).await.unwrap();
    soon("gathering", pool.gathered()).await.unwrap();
    let ready = pool.take().await.unwrap();
    assert_eq!(ready.gathering_state(), GatheringState::Complete);
    let told = ready.local_candidates();
    assert!(!told.is_empty());

    // The next is another, and as good a while later.
    soon("gathering", pool.gathered()).await.unwrap();
    let next = pool.take().await.unwrap();
    assert_eq!(next.gathering_state(), GatheringState::Complete);
    let ufrag = |agent: &Agent| agent.local_parameters().ufrag;
    assert_ne!(ufrag(&ready), ufrag(&next));

    // All that was found is told to the peer, from the first signal on.
    let other = endpoint.agent(config(Role::Controlling)).await.unwrap();
    let (of_ready, of_other) = soon("tickets", async {
        tokio::try_join!(ready.ticket(), other.ticket())
    })
    .await
    .unwrap();
    assert_eq!(of_ready.candidates().len(), told.len());
    ready.accept(&of_other).await.unwrap();
    other.accept(&of_ready).await.unwrap();
    let (mut a, mut b) = soon("connecting", async {
        tokio::try_join!(ready.connect(), other.connect())
    })
    .await
    .unwrap();
    deliver(&mut a, &mut b, "from the pool").await;
}
