//! What each route needs: the one table. What is not in it needs everything.

use axum::http::Method;

use crate::access::Role;

/// What a request must have to be let in, where access is controlled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Nothing,
    /// A role, on whatever cameras: lists are shortened to those in its scope.
    Role(Role),
    /// A page: the role to view, and browsers without one are sent to the login.
    Page,
    /// A role, for the camera that the path names.
    Camera(Role),
    /// A role, for every camera.
    AllCameras(Role),
}

use Need::{AllCameras, Camera, Nothing, Page, Role as Any};
use Role::{Admin, Control, View};

/// Method, route, need. `HEAD` is as `GET`; `OPTIONS` says nothing that is not written in the documents.
const NEEDS: &[(Method, &str, Need)] = &[
    // Load balancers and the scripts of the old system ask without a credential; there is no camera's name in it.
    (Method::GET, "/health", Nothing),
    (Method::GET, "/ready", Nothing),
    // They name every camera.
    (Method::GET, "/metrics", AllCameras(View)),
    (Method::GET, "/log-filter", AllCameras(Admin)),
    (Method::PUT, "/log-filter", AllCameras(Admin)),
    (Method::GET, "/streams", Any(View)),
    (Method::GET, "/streams/{camera}", Camera(View)),
    (Method::GET, "/streams/{camera}/history", Camera(View)),
    (Method::GET, "/streams/{camera}/events", Camera(View)),
    (Method::GET, "/streams/{camera}/keyframe.mp4", Camera(View)),
    (Method::GET, "/streams/{camera}/live.mp4", Camera(View)),
    (Method::GET, "/events", Any(View)),
    (Method::POST, "/streams/{camera}/start", Camera(Control)),
    (Method::POST, "/streams/{camera}/stop", Camera(Control)),
    // Addresses of strangers, and of whose cameras they might be.
    (Method::GET, "/sources", AllCameras(Admin)),
    (Method::GET, "/viewers", Any(View)),
    (Method::GET, "/viewers/{id}", Camera(View)),
    // The handler knows whose viewer it is.
    (Method::DELETE, "/viewers/{id}", Any(Control)),
    (Method::GET, "/cameras", Any(View)),
    (Method::GET, "/cameras/{camera}", Camera(View)),
    (Method::PUT, "/cameras/{camera}", Camera(Control)),
    (Method::POST, "/whep/{camera}", Camera(View)),
    (Method::GET, "/whep/{camera}", Camera(View)),
    (Method::GET, "/whep/{camera}/{session}", Camera(View)),
    (Method::PATCH, "/whep/{camera}/{session}", Camera(View)),
    (Method::DELETE, "/whep/{camera}/{session}", Camera(View)),
    (Method::GET, "/", Page),
    (Method::GET, "/viewer", Page),
    (Method::GET, "/viewer.html", Page),
    (Method::GET, "/livestream/viewer", Page),
    // It may hold the password of a TURN server.
    (Method::GET, "/viewer-config.json", Any(View)),
    (Method::GET, "/docs", Page),
    (Method::GET, "/openapi.json", Any(View)),
    (Method::GET, "/version", Any(View)),
    // The same for everybody, and in everybody's hands: they come with the program. The login needs some.
    (Method::GET, "/viewer.js", Nothing),
    (Method::GET, "/sw.js", Nothing),
    (Method::GET, "/static/{*path}", Nothing),
    (Method::GET, "/login", Nothing),
    (Method::POST, "/login", Nothing),
    (Method::POST, "/logout", Nothing),
    (Method::GET, "/session", Any(View)),
];

/// What a request with `method` to `route` needs.
pub(super) fn of(method: &Method, route: &str) -> Need {
    let method = match *method {
        Method::HEAD => &Method::GET,
        Method::OPTIONS => return Nothing,
        _ => method,
    };
    let found = NEEDS.iter().find(|(m, path, _)| m == method && *path == route);
    found.map_or(AllCameras(Admin), |(.., need)| *need)
}

/// Every route of the table once.
#[cfg(test)]
pub(super) fn table() -> &'static [(Method, &'static str, Need)] {
    NEEDS
}
