import { element, table } from "./element.js";

function prose(text) {
  const paragraph = element("p", {});
  text.split(/(``[^`]+``|`[^`]+`|\*\*[^*]+\*\*)/).forEach((part) => {
    if (part.startsWith("`")) paragraph.append(element("code", {}, part.replaceAll("`", "")));
    else if (part.startsWith("**")) paragraph.append(element("strong", {}, part.slice(2, -2)));
    else paragraph.append(part);
  });
  return paragraph;
}

function kind(schema) {
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.type === "array") return `list of ${kind(schema.items || {})}`;
  return [schema.type || "anything", schema.format].filter(Boolean).join(", ");
}

function bodies(content, spec) {
  return Object.entries(content).flatMap(([media, body]) => {
    const parts = [prose(`\`${media}\` ${kind(body.schema)}. ${body.schema.description || ""}`)];
    if (body.example !== undefined) parts.push(element("pre", {}, JSON.stringify(body.example, null, 2)));
    const name = body.schema.$ref && body.schema.$ref.split("/").pop();
    if (name) parts.push(fields(spec.components.schemas[name]));
    return parts;
  });
}

function fields(schema) {
  const rows = Object.entries(schema.properties || {}).map(([name, form]) => [
    element("code", {}, name), kind(form), (schema.required || []).includes(name) ? "" : "optional",
  ]);
  const text = schema.description ? [prose(schema.description)] : [];
  return element("div", {}, ...text, table(rows));
}

function call(path, method, operation, spec) {
  const id = operation.operationId;
  const inside = element("div", {}, prose(operation.description));
  if (operation.parameters.length) {
    inside.append(element("h3", {}, "Parameters"), table(operation.parameters.map((one) => [
      element("code", {}, one.name), one.in + (one.required ? "" : ", optional"), kind(one.schema), one.description,
    ])));
  }
  if (operation.requestBody) inside.append(element("h3", {}, "Body"), ...bodies(operation.requestBody.content, spec));
  const problems = [];
  Object.entries(operation.responses).forEach(([status, answer]) => {
    if (answer.$ref) problems.push([status, spec.components.responses[status].description]);
    else inside.append(element("h3", {}, `${status} ${answer.description}`), ...bodies(answer.content || {}, spec));
  });
  inside.append(element("h3", {}, "Problems"), table(problems));
  return element("details", { id },
    element("summary", {}, element("span", { class: `method ${method}` }, method.toUpperCase()),
      element("code", {}, path), element("span", { class: "what" }, operation.summary)), inside);
}

async function show() {
  const spec = await (await fetch("/openapi.json")).json();
  document.getElementById("introduction").replaceWith(prose(spec.info.description));
  const groups = new Map();
  Object.entries(spec.paths).forEach(([path, methods]) => Object.entries(methods).forEach(([method, operation]) => {
    const tag = operation.tags[0];
    groups.set(tag, [...(groups.get(tag) || []), [path, method, operation]]);
  }));
  const calls = document.getElementById("calls");
  const contents = document.getElementById("contents");
  groups.forEach((members, tag) => {
    calls.append(element("h2", {}, tag));
    contents.append(element("h2", {}, tag));
    members.forEach(([path, method, operation]) => {
      calls.append(call(path, method, operation, spec));
      contents.append(element("a", { href: `#${operation.operationId}` },
        element("span", { class: `method ${method}` }, method.toUpperCase()), ` ${path}`));
    });
  });
  contents.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link) document.querySelector(link.getAttribute("href")).open = true;
  });
}

show();
