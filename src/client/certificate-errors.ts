import { ConnectError } from "@connectrpc/connect";
import type { Interceptor } from "@connectrpc/connect";
import { causeCode } from "./retry.ts";

const unknownCa = "is signed by an unknown CA: give that CA's PEM as `ca`";
const wrongTime = "is not valid at this time: renew it, or set this machine's clock";

/** What is wrong with a certificate, and what to do, by OpenSSL's or Node's code. */
const problems: Readonly<Record<string, string>> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: unknownCa,
  SELF_SIGNED_CERT_IN_CHAIN: unknownCa,
  UNABLE_TO_GET_ISSUER_CERT: unknownCa,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: unknownCa,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: unknownCa,
  CERT_HAS_EXPIRED: wrongTime,
  CERT_NOT_YET_VALID: wrongTime,
  ERR_TLS_CERT_ALTNAME_INVALID:
    "is for another host name: call the server by a name that is in the certificate, or make it one for this name",
};

/** What is wrong with the server's certificate, if that is why a call failed. */
export function certificateProblem(error: unknown, url: string): string | undefined {
  const problem = problems[causeCode(error)];
  return problem === undefined ? undefined : `the certificate of ${url} ${problem}`;
}

/** Says in the error of a call what is wrong with the server's certificate: Node's own words are for its users. */
export function createCertificateInterceptor(url: string): Interceptor {
  return (next) => async (req) => {
    try {
      return await next(req);
    } catch (error) {
      throw explainCertificate(error, url);
    }
  };
}

/** The error in words of our own, if it is about the server's certificate. */
export function explainCertificate(error: unknown, url: string): unknown {
  const problem = certificateProblem(error, url);
  if (problem === undefined || !(error instanceof ConnectError)) return error;
  return new ConnectError(problem, error.code, undefined, undefined, error);
}
