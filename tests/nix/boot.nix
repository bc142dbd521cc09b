# Settings of the machine that boots, and those that a reload brings.
{
  before = {
    models.first.backend = "echo";
    server.listen = [ "127.0.0.1:8000" ];
  };
  after = {
    models.first.backend = "echo";
    models.second.backend = "echo";
    server.listen = [ "127.0.0.1:8000" ];
  };
}
