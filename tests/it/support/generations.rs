//! Tests that run with a gateway of each generation, each with a server of its own: one after the other would take too
//! long in one test.

/// Lists tests that take a server and a gateway: its name and its generation. Each becomes four tests, such as
/// `name::generation_0_0::sqlite`. `$tests` is `server_tests` or a macro like it; `$gateways` has a gateway of generation
/// 0.0 and one of generation 0.1.
macro_rules! each_generation {
    ($tests:ident, $gateways:ident; $($name:ident),+ $(,)?) => {$(
        mod $name {
            use super::*;

            $tests! { generation_0_0, generation_0_1 }

            async fn generation_0_0(sg: $crate::support::server::TestServer) {
                super::$name(sg, $gateways[0]).await;
            }

            async fn generation_0_1(sg: $crate::support::server::TestServer) {
                super::$name(sg, $gateways[1]).await;
            }
        }
    )+};
}
