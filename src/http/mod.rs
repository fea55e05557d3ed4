//! The HTTP/1.1 server machinery: listener, connections, framing and the watcher; it knows no route.
