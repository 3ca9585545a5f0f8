"""How clients come in: Service, Ingress, HTTPRoute, and the network policies around them."""

import re

import pytest

from conftest import ROOT, refusal, render

NGINX = "nginx.ingress.kubernetes.io/"


def ingress(values=None, persona="ingress-cookie"):
    return render(values, persona).one("Ingress")


def notes_of(thing):
    return {key.removeprefix(NGINX): value for key, value in thing["metadata"]["annotations"].items()}


def test_there_is_no_door_until_one_is_asked_for():
    objects = render()
    assert not objects.all("Ingress") and not objects.all("HTTPRoute")
    assert objects.one("Service")["spec"]["type"] == "ClusterIP"


def test_the_service():
    service = render({"service.type": "NodePort", "service.nodePort": 30080, "service.port": 8000, "service.annotations": {"a": "b"}})
    service = service.one("Service")
    assert service["spec"]["ports"][0]["nodePort"] == 30080 and service["spec"]["ports"][0]["port"] == 8000
    assert service["metadata"]["annotations"] == {"a": "b"}
    assert "nodePort" not in render({"service.nodePort": 30080}).one("Service")["spec"]["ports"][0]
    # With it, the test of a message between two pods could never meet both.
    assert "sessionAffinity" not in render({"affinity.mode": "ip"}).one("Service")["spec"]


def test_cookie_affinity_sets_all_its_annotations():
    assert notes_of(ingress()) == {
        "affinity": "cookie",
        "affinity-mode": "persistent",
        "session-cookie-name": "roomcast",
        "session-cookie-path": "/",
        "session-cookie-max-age": "86400",
        "session-cookie-samesite": "Lax",
        "session-cookie-change-on-failure": "true",
        "session-cookie-secure": "true",
        "proxy-read-timeout": "3600",
        "proxy-send-timeout": "3600",
    }


def test_the_cookie_is_for_tls_only_where_there_is_tls():
    assert "session-cookie-secure" not in notes_of(ingress({"ingress.tls": []}))
    # Browsers take SameSite=None from nobody else.
    assert notes_of(ingress({"ingress.tls": [], "affinity.cookie.sameSite": "None"}))["session-cookie-secure"] == "true"


def test_the_cookie_can_be_another():
    notes = notes_of(ingress({"affinity.cookie": {"name": "x", "mode": "balanced", "maxAgeSeconds": 1000000, "sameSite": "Strict"}}))
    assert notes["session-cookie-name"] == "x" and notes["affinity-mode"] == "balanced"
    assert notes["session-cookie-max-age"] == "1000000" and notes["session-cookie-samesite"] == "Strict"


def test_affinity_by_address_is_a_hash_and_no_cookie():
    notes = notes_of(ingress(persona="ingress-ip"))
    assert notes == {"upstream-hash-by": "$remote_addr", "proxy-read-timeout": "3600", "proxy-send-timeout": "3600"}


def test_no_affinity_sets_neither():
    assert set(notes_of(ingress({"affinity.mode": "none"}))) == {"proxy-read-timeout", "proxy-send-timeout"}


def test_annotations_of_the_user_win():
    notes = notes_of(ingress({"ingress.annotations": {NGINX + "proxy-read-timeout": "60", "x": "y"}}))
    assert notes["proxy-read-timeout"] == "60" and notes["x"] == "y" and notes["affinity"] == "cookie"


def test_the_proxy_waits_longer_than_the_server_between_two_pings():
    row = re.search(r"^\| `ROOMCAST_PING_INTERVAL` \| `(\d+)s`", (ROOT / "docs" / "configuration.md").read_text(), re.M)
    for timeout in ("proxy-read-timeout", "proxy-send-timeout"):
        assert int(notes_of(ingress())[timeout]) > 2 * int(row[1])


def test_hosts_paths_class_and_tls():
    spec = ingress()["spec"]
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"secretName": "chat-example-com", "hosts": ["chat.example.com"]}]
    (rule,) = spec["rules"]
    assert rule["host"] == "chat.example.com"
    paths = [(path["path"], path["pathType"]) for path in rule["http"]["paths"]]
    assert paths == [("/", "Exact"), ("/ws", "Exact"), ("/v1", "Prefix")]
    spec = ingress({"ingress.hosts": [], "ingress.className": "", "ingress.tls": [], "paths": [{"path": "/", "type": "Prefix"}]})["spec"]
    assert "host" not in spec["rules"][0] and not {"tls", "ingressClassName"} & set(spec)
    assert spec["rules"][0]["http"]["paths"][0]["pathType"] == "Prefix"
    two = ingress({"ingress.hosts": ["a.example", "*.b.example"]})["spec"]["rules"]
    assert [rule["host"] for rule in two] == ["a.example", "*.b.example"]
    assert "paths is empty" in refusal({"paths": []}, "ingress-cookie")


def route(values=None):
    return render(values, "gateway").one("HTTPRoute")


def test_the_route():
    spec = route()["spec"]
    assert spec["parentRefs"] == [{"name": "public", "namespace": "gateways"}]
    assert spec["hostnames"] == ["chat.example.com"]
    (rule,) = spec["rules"]
    paths = [(match["path"]["type"], match["path"]["value"]) for match in rule["matches"]]
    assert paths == [("Exact", "/"), ("Exact", "/ws"), ("PathPrefix", "/v1")]
    assert rule["backendRefs"] == [{"name": "roomcast", "port": 80}]
    # Only fields of the standard Gateway API, and none that would end a WebSocket.
    assert set(rule) == {"matches", "backendRefs"}
    assert route()["apiVersion"] == "gateway.networking.k8s.io/v1"


def test_the_route_takes_what_a_controller_has_of_its_own():
    ref = {"name": "sticky", "group": "traefik.io", "kind": "TraefikService"}
    persistence = {"sessionName": "roomcast", "type": "Cookie"}
    values = {"httpRoute.backendRefs": [ref], "httpRoute.sessionPersistence": persistence, "httpRoute.timeouts": {"request": "0s"}}
    thing = route(values | {"httpRoute.hostnames": [], "httpRoute.annotations": {"a": "b"}, "paths": [{"path": "/", "type": "Prefix"}]})
    (rule,) = thing["spec"]["rules"]
    assert rule["backendRefs"] == [ref] and rule["sessionPersistence"] == persistence and rule["timeouts"] == {"request": "0s"}
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert "hostnames" not in thing["spec"] and thing["metadata"]["annotations"] == {"a": "b"}


def test_a_route_without_gateway_is_refused():
    assert "An HTTPRoute without a Gateway leads nowhere. Set httpRoute.parentRefs" in refusal({"httpRoute.enabled": True})


# --- Network policies ---------------------------------------------------------------------------------------------


def labels(component):
    return {
        "podSelector": {
            "matchLabels": {
                "app.kubernetes.io/name": "roomcast",
                "app.kubernetes.io/instance": "roomcast",
                "app.kubernetes.io/component": component,
            }
        }
    }


def test_policies_are_there_unless_they_are_not_wanted():
    assert len(render().all("NetworkPolicy")) == 3
    assert not render({"networkPolicy.enabled": False}).all("NetworkPolicy")
    for policy in render().all("NetworkPolicy"):
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_only_servers_and_tests_reach_redis_and_it_reaches_nobody():
    spec = render().one("NetworkPolicy", "roomcast-redis")["spec"]
    (rule,) = spec["ingress"]
    assert rule["from"] == [labels("server"), labels("test")]
    assert rule["ports"] == [{"port": 6379, "protocol": "TCP"}]
    # No rule at all, as the cluster drops an empty list, and each diff would show it.
    assert "egress" not in spec


def reached(spec):
    return [(rule.get("to"), [port["port"] for port in rule["ports"]]) for rule in spec["egress"]]


def test_servers_reach_names_and_redis_and_nothing_else():
    spec = render().one("NetworkPolicy")["spec"]
    assert reached(spec) == [(None, [53, 53, 5353, 5353]), ([labels("redis")], [6379])]
    assert reached(render(persona="single").one("NetworkPolicy")["spec"]) == [(None, [53, 53, 5353, 5353])]


@pytest.mark.parametrize(
    ("url", "port"), [("redis://r", 6379), ("redis://r/2", 6379), ("redis://u@r:7000/0", 7000), ("rediss://[::1]:7001", 7001)]
)
def test_servers_reach_the_port_of_a_redis_elsewhere(url, port):
    spec = render({"redis.enabled": False, "externalRedis.url": url}).one("NetworkPolicy")["spec"]
    assert reached(spec)[1:] == [(None, [port])]


def test_tests_reach_what_they_test():
    spec = render().one("NetworkPolicy", "roomcast-test")["spec"]
    assert "ingress" not in spec
    assert reached(spec) == [(None, [53, 53, 5353, 5353]), ([labels("server")], [8080, 8081]), ([labels("redis")], [6379])]
    spec = render(persona="single").one("NetworkPolicy", "roomcast-test")["spec"]
    assert reached(spec)[1:] == [([labels("server")], [8080, 8081])]


def test_servers_reach_the_collector_of_traces():
    values = {"config": {"ROOMCAST_OTLP_ENDPOINT": "http://otel:4318"}}
    assert reached(render(values).one("NetworkPolicy")["spec"])[2:] == [(None, [4318])]
    values = {"config": {"ROOMCAST_OTLP_ENDPOINT": "http://otel"}}
    assert reached(render(values).one("NetworkPolicy")["spec"])[2:] == [(None, [80])]


def test_who_reaches_servers_can_be_narrowed_and_tests_still_do():
    rules = render().one("NetworkPolicy")["spec"]["ingress"]
    assert rules == [{"ports": [{"port": port, "protocol": "TCP"}]} for port in (8080, 8081)]
    clients, metrics = render(persona="strict").one("NetworkPolicy")["spec"]["ingress"]
    names = [rule["from"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for rule in (clients, metrics)]
    assert names == ["ingress-nginx", "monitoring"]
    for rule in (clients, metrics):
        assert len(rule["from"]) == 2 and rule["from"][-1] == labels("test")
    # Without a list of its own, the port for metrics has the one of the clients.
    both = render({"networkPolicy.metricsFrom": []}, "strict").one("NetworkPolicy")["spec"]["ingress"]
    assert both[0]["from"] == both[1]["from"] == clients["from"]
    extra = {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
    assert render({"networkPolicy.egress": [extra]}).one("NetworkPolicy")["spec"]["egress"][-1] == extra
