//! The standard health service answers for the server and for its service, and reflection describes
//! the interface.

use crate::support::suite::tests;
use crate::support::{Running, server, soon};
use libtest_mimic::Trial;
use messenger::net::{Connection, ServerAddr};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

pub fn tests() -> Vec<Trial> {
    tests![health_is_serving_until_the_shutdown, reflection_describes_the_interface_and_its_imports]
}

async fn connect(server: &Running) -> (Connection, http::Uri) {
    let address = ServerAddr::local(server.address);
    (Connection::open(&address).await.unwrap(), address.origin())
}

fn ask(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

async fn health_is_serving_until_the_shutdown() {
    let server = server(&[]);
    let (connection, origin) = connect(&server).await;
    let mut health = HealthClient::with_origin(connection, origin);
    let mut watches = Vec::new();
    for service in ["", "mes_grpc.MessengerServer"] {
        let answer = health.check(ask(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
        let mut watch = health.watch(ask(service)).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        watches.push(watch);
    }
    let status = health.check(ask("other.Service")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let mut unknown = health.watch(ask("other.Service")).await.unwrap().into_inner();
    assert_eq!(unknown.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);

    let stop = tokio::spawn(server.stop());
    for mut watch in watches {
        assert_eq!(soon("the change", watch.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
        assert!(soon("the end", watch.message()).await.unwrap().is_none());
    }
    stop.await.unwrap();
}

async fn reflection_describes_the_interface_and_its_imports() {
    let server = server(&[]);
    let (connection, origin) = connect(&server).await;
    let mut reflection = ServerReflectionClient::with_origin(connection.clone(), origin.clone());
    let questions = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("mes_grpc.MessengerServer".to_owned()),
        MessageRequest::FileByFilename("google/protobuf/timestamp.proto".to_owned()),
        MessageRequest::FileByFilename("google/protobuf/empty.proto".to_owned()),
    ];
    let requests =
        questions.map(|question| ServerReflectionRequest { host: String::new(), message_request: Some(question) });
    let mut answers = reflection.server_reflection_info(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut next = async || soon("an answer", answers.message()).await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = next().await else { panic!("not a list") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&"mes_grpc.MessengerServer".to_owned()), "{names:?}");
    assert!(names.contains(&"grpc.health.v1.Health".to_owned()), "{names:?}");
    for _ in 0..3 {
        let MessageResponse::FileDescriptorResponse(file) = next().await else { panic!("not a file") };
        assert!(!file.file_descriptor_proto.is_empty());
    }

    // Older tools use the previous version.
    let request = tonic_reflection::pb::v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut older = tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient::with_origin(
        connection, origin,
    );
    let mut answers = older.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    assert!(soon("an answer", answers.message()).await.unwrap().is_some());
}
