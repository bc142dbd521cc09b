# Ids of the Hugging Face hub, as src/hub/id.rs reads them.
rec {
  id = "[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*(@[^:]+)?(:.+[.][gG][gG][uU][fF])?";
  isId = source: builtins.isString source && builtins.match id source != null;
}
