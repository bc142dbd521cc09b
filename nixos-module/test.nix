# A virtual machine with the service: started, asked, reloaded, restarted.
{ module }:
{
  name = "sconce";

  nodes.machine =
    { pkgs, ... }:
    {
      imports = [ module ];
      environment.systemPackages = [
        pkgs.curl
        (pkgs.python3.withPackages (python: [ python.openai ]))
      ];
      systemd.tmpfiles.rules = [ "f /etc/secrets/keys 0600 root root - alice:sk-one" ];
      services.sconce = {
        enable = true;
        apiKeyFiles = [ "/etc/secrets/keys" ];
        settings = {
          models.first = {
            backend = "echo";
            echo.delay_ms = 200;
          };
        };
      };
      specialisation.more.configuration.services.sconce.settings.models.second.backend = "echo";
    };

  testScript = ''
    machine.wait_for_unit("sconce.service")
    url = "http://127.0.0.1:8000"
    auth = "-H 'authorization: Bearer sk-one'"
    machine.succeed(f"curl -fsS {url}/health")
    machine.succeed(f"curl -fsS {auth} {url}/v1/models | grep first")
    machine.fail(f"curl -fsS {url}/v1/models")

    client = """
    from openai import OpenAI
    client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="sk-one")
    messages = [{"role": "user", "content": "Hello!"}]
    answer = client.chat.completions.create(model="first", messages=messages)
    assert answer.choices[0].message.content == "Echo from first: Hello!"
    """
    machine.succeed(f"python3 - <<'EOF'\n{client}\nEOF")

    with subtest("a new model is a reload, and a stream goes on"):
        pid = machine.succeed("systemctl show -P MainPID sconce")
        body = '{"model": "first", "stream": true, "messages": [{"role": "user", "content": "one two three four five six"}]}'
        machine.execute(
            f"(curl -sSN {auth} -H 'content-type: application/json' -d '{body}' {url}/v1/chat/completions >/tmp/stream; touch /tmp/done) >&2 &"
        )
        machine.wait_until_succeeds("grep data: /tmp/stream")
        machine.succeed("/run/current-system/specialisation/more/bin/switch-to-configuration test")
        machine.succeed(f"curl -fsS {auth} {url}/v1/models | grep second")
        assert pid == machine.succeed("systemctl show -P MainPID sconce")
        machine.wait_for_file("/tmp/done")
        machine.succeed("grep -F '[DONE]' /tmp/stream")

    with subtest("a restart"):
        machine.succeed("systemctl restart sconce")
        machine.succeed(f"curl -fsS {auth} {url}/v1/models | grep second")

    with subtest("hardened"):
        machine.succeed("systemd-analyze security --threshold=12 sconce.service")
  '';
}
