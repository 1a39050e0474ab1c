// Asks the provider's own Node libraries: a list of [function, ...arguments] comes in, a list of results goes out.
import { readFileSync } from "node:fs";
import { tokenGenerate, verifySignature } from "@vonage/jwt";
import { SMS } from "@vonage/sms";
import jsonwebtoken from "jsonwebtoken"; // what @vonage/jwt signs and verifies with; it itself signs RS256 only

const sms = new SMS({ apiKey: "key", apiSecret: "secret" });
const functions = {
  sign: (claims, secret, algorithm) => jsonwebtoken.sign(claims, secret, { algorithm }),
  tokenGenerate,
  verifySignature,
  verifyReceipt: (...given) => sms.verifySignature(...given),
};
const calls = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(calls.map(([name, ...given]) => functions[name](...given))));
