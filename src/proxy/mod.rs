//! The OpenShell API, forwarded to the right gateway.
