//! The layer in front of all routes if there is a web configuration: limits, headers, authentication.

use super::connection::Peer;
use crate::web::{Authentication, Web};
use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

pub(super) async fn guard(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    let settings = web.current().await;
    let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let mut response = if settings.is_too_fast() {
        (StatusCode::TOO_MANY_REQUESTS, "too many requests; `rate_limit` says how many are answered\n")
            .into_response()
    } else {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.address);
        match settings.authenticate(authorization, peer).await {
            Authentication::Welcome => next.run(request).await,
            Authentication::Busy => {
                let later = [(header::RETRY_AFTER, "1")];
                let body = "too many passwords are being checked; try again later\n";
                (StatusCode::SERVICE_UNAVAILABLE, later, body).into_response()
            }
            Authentication::Unknown => {
                let asked = [(header::WWW_AUTHENTICATE, "Basic")];
                (StatusCode::UNAUTHORIZED, asked, "a user and password are needed here\n").into_response()
            }
        }
    };
    for (name, value) in settings.headers() {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}
