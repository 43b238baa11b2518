//! The listener for operators: `/metrics` and `/health`.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use core::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::admission::Admission;
use crate::metrics;
use crate::rendezvous::RendezvousCounts;
use crate::server::ServerHandle;
use crate::web::{ERROR_PAUSE, one_request_each, serve};

/// Far more than those who watch a server; strangers should not reach it in the first place.
const MAX_CONNECTIONS: usize = 64;
/// From a connection's beginning to the end of its request's head.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Accepts and serves, for as long as it is polled.
pub(crate) async fn run(listener: TcpListener, server: ServerHandle) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .with_state(server)
        .layer(map_response(one_request_each));
    let admission = Admission::new(MAX_CONNECTIONS, MAX_CONNECTIONS);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => if let Some(permit) = admission.admit(address.ip().into()) {
                    let router = router.clone();
                    connections.spawn(async move {
                        serve(stream, router, HEAD_TIME).await;
                        drop(permit);
                    });
                },
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection for metrics failed");
                    sleep(ERROR_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn metrics(State(server): State<ServerHandle>) -> Response {
    let page = metrics::page(&server.stats(), server.is_draining());
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], page).into_response()
}

async fn health(State(server): State<ServerHandle>) -> Response {
    health_of(&server.stats().rendezvous, server.is_draining())
}

/// Whether the server takes new work: 200 if it does, 503 while it drains, so that a load balancer looks elsewhere.
pub(crate) fn health_of(rendezvous: &RendezvousCounts, draining: bool) -> Response {
    let body = serde_json::json!({
        "schema": "nilas.health/1",
        "ok": !draining,
        "rendezvous": {
            "connections": rendezvous.connections,
            "codes": rendezvous.codes,
            "met": rendezvous.met,
            "refused": rendezvous.refused,
        },
    });
    let status = if draining {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response()
}
